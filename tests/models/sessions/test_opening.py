"""Sessions on every runtime that is here: what they report, refuse, and compute."""

import hashlib
import threading
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest

from stemwright.core.errors import DeviceError, InternalError, ModelFileError, OptionError, OutOfMemoryError
from stemwright.models.graphs.transforms import standalone_graph, standalone_model
from stemwright.models.manifest import (
    Graph,
    GraphInput,
    GraphOutput,
    Manifest,
    Precision,
    PrecisionRecord,
    read_manifest,
)
from stemwright.models.sessions import onnxruntime_builds, opening
from stemwright.models.sessions.hardware import cpu_flags, has_bfloat16
from stemwright.models.sessions.opening import Session, SessionFacts, SessionOptions, open_session
from stemwright.models.sessions.precisions import choose_precision
from stemwright.models.sessions.rewrites.halves import in_float16
from stemwright.models.sessions.runtimes.gpu import (
    LARGEST_BATCH,
    GpuPlan,
    GpuSession,
    batch_for,
    tensorrt_options,
)
from stemwright.models.sessions.runtimes.onnxruntime import translate_failure
from tests.support.fake_kinds import asked_manifest, remembering_manifest
from tests.support.tiny_models import GAINS, gain_graph, install_tiny_model

HERE = [
    "cpu",
    pytest.param(
        "openvino", marks=pytest.mark.skipif(find_spec("openvino") is None, reason="needs openvino")
    ),
]
SAMPLES = 4096


@dataclass(frozen=True)
class Model:
    manifest: Manifest
    graph_path: Path
    sha256: str


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return load(install_tiny_model(tmp_path / "models"))


def load(folder: Path) -> Model:
    manifest = read_manifest(folder)
    assert isinstance(manifest, Manifest)
    path = folder / "model.onnx"
    return Model(manifest, path, hashlib.sha256(path.read_bytes()).hexdigest())


def options(tmp_path: Path, device: str = "cpu", **more: object) -> SessionOptions:
    return replace(SessionOptions(cache_dir=tmp_path / "cache", device=device), **more)  # type: ignore[arg-type]


def mixture(batch: int = 1) -> np.ndarray[tuple[int, int, int], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((batch, 2, SAMPLES)).astype(np.float32)


@pytest.mark.parametrize("device", HERE)
@pytest.mark.parametrize("batch", [1, 3])
def test_computes(model: Model, tmp_path: Path, device: str, batch: int) -> None:
    session = open_session(model, options(tmp_path, device))
    x = mixture(batch)
    stems = session.run({"mixture": x})["stems"]
    assert stems.dtype == np.float32
    for index, gain in enumerate(GAINS):
        np.testing.assert_allclose(stems[:, index], gain * x, rtol=1e-6)
    session.close()


@pytest.mark.parametrize("device", HERE)
def test_outputs_belong_to_the_caller(model: Model, tmp_path: Path, device: str) -> None:
    session = open_session(model, options(tmp_path, device))
    first = session.run({"mixture": mixture()})["stems"]
    kept = first.copy()
    session.run({"mixture": -mixture()})
    assert np.array_equal(first, kept)
    first += 1.0


@pytest.mark.parametrize("device", HERE)
def test_calls_in_flight_do_not_meet(model: Model, tmp_path: Path, device: str) -> None:
    session = open_session(model, options(tmp_path, device, threads=2))
    assert session.facts.parallel_calls == 2
    wrong: list[int] = []

    def work(number: int) -> None:
        x = np.full((1, 2, SAMPLES), number, np.float32)
        for _ in range(20):
            if not np.allclose(session.run({"mixture": x})["stems"][0, 0], GAINS[0] * number):
                wrong.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(1, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@pytest.mark.parametrize("device", HERE)
def test_facts(model: Model, tmp_path: Path, device: str) -> None:
    facts = open_session(model, options(tmp_path, device, threads=3)).facts
    assert facts.provider == facts.device == device
    assert facts.precision == "float32"
    assert facts.threads == 3
    assert facts.batch_limit == 1
    assert "asked for" in facts.chosen_because
    assert facts.runtime.split(" ")[0] in ("ONNX", "OpenVINO")


@pytest.mark.parametrize("device", HERE)
def test_low_memory_keeps_one_call_in_flight(model: Model, tmp_path: Path, device: str) -> None:
    assert open_session(model, options(tmp_path, device, low_memory=True)).facts.parallel_calls == 1


def test_auto_says_why(model: Model, tmp_path: Path) -> None:
    facts = open_session(model, options(tmp_path, "auto")).facts
    assert "the best that works here" in facts.chosen_because


@pytest.mark.parametrize("device", ["tensorrt", "cuda:99"])
def test_a_device_that_is_not_there(model: Model, tmp_path: Path, device: str) -> None:
    with pytest.raises(DeviceError) as caught:
        open_session(model, options(tmp_path, device))
    assert device.partition(":")[0] in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_that_make_no_sense(model: Model, tmp_path: Path, threads: int) -> None:
    with pytest.raises(OptionError):
        open_session(model, options(tmp_path, threads=threads))


@pytest.mark.parametrize("device", HERE)
def test_a_graph_that_is_not_the_manifests(model: Model, tmp_path: Path, device: str) -> None:
    ports = model.manifest.graph.model_copy(update={"inputs": (GraphInput(name="song", role="waveform"),)})
    other = replace(model, manifest=model.manifest.model_copy(update={"graph": ports}))
    with pytest.raises(ModelFileError, match="song"):
        open_session(other, options(tmp_path, device))


@pytest.mark.parametrize("device", HERE)
def test_a_damaged_graph(model: Model, tmp_path: Path, device: str) -> None:
    model.graph_path.write_bytes(b"\x08\x0a\xff\xff not a graph")
    with pytest.raises(ModelFileError, match=r"model\.onnx"):
        open_session(model, options(tmp_path, device))


@pytest.mark.parametrize("device", HERE)
def test_an_operator_nobody_knows(model: Model, tmp_path: Path, device: str) -> None:
    graph = onnx.load(str(model.graph_path))
    graph.graph.node[0].op_type = "Gargle"
    onnx.save(graph, str(model.graph_path))
    with pytest.raises(ModelFileError, match="cannot load"):
        open_session(model, options(tmp_path, device))


@pytest.mark.parametrize("device", HERE)
def test_inputs_of_a_wrong_shape_are_our_fault(model: Model, tmp_path: Path, device: str) -> None:
    session = open_session(model, options(tmp_path, device))
    with pytest.raises(InternalError):
        session.run({"mixture": mixture()[:, :1]})


def test_two_runtimes_are_warned_about(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    conflict = onnxruntime_builds.RuntimeConflict(installed=("onnxruntime 1", "onnxruntime-gpu 1"), owner="x")
    monkeypatch.setattr(opening, "runtime_conflict", lambda: conflict)
    open_session(model, options(tmp_path))
    assert "pip uninstall" in caplog.text


class TestPrecision:
    def safe(self, model: Model, *records: tuple[str, str]) -> Manifest:
        return model.manifest.model_copy(
            update={
                "safe_precisions": tuple(
                    PrecisionRecord.model_validate(
                        {"provider": provider, "precision": precision, "sdr_loss_db": 0.01}
                    )
                    for provider, precision in records
                )
            }
        )

    def test_auto_is_exact_without_a_record(self, model: Model) -> None:
        possible: frozenset[Precision] = frozenset({"float32", "bfloat16", "int8"})
        assert choose_precision(model.manifest, "openvino", "auto", possible)[0] == "float32"

    def test_auto_takes_what_is_safe_and_possible(self, model: Model) -> None:
        manifest = self.safe(model, ("openvino", "bfloat16"), ("openvino", "int8"))
        both = choose_precision(manifest, "openvino", "auto", frozenset({"float32", "bfloat16", "int8"}))
        assert both[0] == "bfloat16"
        assert "0.01 dB" in both[1]
        assert choose_precision(manifest, "openvino", "auto", frozenset({"float32", "int8"}))[0] == "int8"
        assert choose_precision(manifest, "openvino", "auto", frozenset({"float32"}))[0] == "float32"

    def test_a_record_of_another_provider_does_not_count(self, model: Model) -> None:
        manifest = self.safe(model, ("cuda", "float16"))
        assert choose_precision(manifest, "cpu", "auto", frozenset({"float32", "float16"}))[0] == "float32"

    def test_what_is_not_possible_names_what_is(self, model: Model) -> None:
        with pytest.raises(DeviceError) as caught:
            choose_precision(model.manifest, "cpu", "float16", frozenset({"float32", "int8"}))
        assert "float32, int8" in caught.value.remedy

    def test_float16_is_never_computed_on_a_cpu(self, model: Model, tmp_path: Path) -> None:
        with pytest.raises(DeviceError, match="float16"):
            open_session(model, options(tmp_path, precision="float16"))

    @pytest.mark.skipif(not has_bfloat16(), reason="needs a CPU with bfloat16")
    def test_bfloat16_runs_in_openvino(self, model: Model, tmp_path: Path) -> None:
        pytest.importorskip("openvino", reason="needs the extra openvino")
        session = open_session(model, options(tmp_path, "openvino", precision="bfloat16"))
        assert session.facts.precision == "bfloat16"
        stems = session.run({"mixture": mixture()})["stems"]
        np.testing.assert_allclose(stems[:, 0], GAINS[0] * mixture(), rtol=2e-2, atol=1e-3)

    @pytest.mark.parametrize("device", HERE)
    @pytest.mark.skipif(not cpu_flags() & {"avx512_vnni", "avx_vnni"}, reason="needs a CPU with VNNI")
    def test_int8_runs(self, model: Model, tmp_path: Path, device: str) -> None:
        session = open_session(model, options(tmp_path, device, precision="int8"))
        assert session.facts.precision == "int8"
        assert session.run({"mixture": mixture()})["stems"].shape == (1, 4, 2, SAMPLES)


STAND_IN = SessionFacts(
    provider="cuda",
    device="cuda:0",
    runtime="ONNX Runtime",
    precision="float32",
    threads=2,
    parallel_calls=1,
    batch_limit=1,
    chosen_because="test",
)


def on_stand_in(model: onnx.ModelProto, tmp_path: Path, free: list[int | None]) -> GpuSession:
    """A GPU session on the CPU provider: all of it but the card."""
    path = tmp_path / "standalone.onnx"
    onnx.save(model, str(path))
    plan = GpuPlan(
        providers=[("CPUExecutionProvider", {})],
        device_type="cpu",
        device_id=0,
        probe={"waveform": np.zeros((1, 2, SAMPLES), np.float32)},
        free_memory=lambda: free.pop(0),
    )
    graph = Graph(
        inputs=(GraphInput(name="waveform", role="waveform"),),
        outputs=(GraphOutput(name="stems", role="waveform"),),
    )
    return GpuSession(path, graph, STAND_IN, plan)


class TestGpuSession:
    """What of the GPU path can be tested without one."""

    @pytest.fixture
    def standalone(self, model: Model) -> onnx.ModelProto:
        core = onnx.load(str(model.graph_path))
        assert standalone_graph(model.manifest.graph).inputs[0].name == "waveform"
        return standalone_model(core, model.manifest.graph, 2, len(GAINS), SAMPLES)

    def test_batches_of_changing_size(self, standalone: onnx.ModelProto, tmp_path: Path) -> None:
        session: Session = on_stand_in(standalone, tmp_path, [None, None])
        for batch in (1, 4, 2, 4, 3, 1):
            x = mixture(batch)
            stems = session.run({"waveform": x})["stems"]
            np.testing.assert_allclose(stems[:, 1], GAINS[1] * x, rtol=1e-6)
        session.close()

    def test_batch_limit_from_memory(self, standalone: onnx.ModelProto, tmp_path: Path) -> None:
        assert on_stand_in(standalone, tmp_path, [10 << 30, 8 << 30]).facts.batch_limit == 4
        assert on_stand_in(standalone, tmp_path, [None, None]).facts.batch_limit == 1

    @pytest.mark.parametrize(
        ("before", "after", "batch"),
        [(100, 99, LARGEST_BATCH), (100, 50, 1), (100, 60, 2), (50, 60, LARGEST_BATCH)],
    )
    def test_batch_for(self, before: int, after: int, batch: int) -> None:
        assert batch_for(before, after) == batch

    def test_another_provider_than_asked_for_is_refused(
        self, standalone: onnx.ModelProto, tmp_path: Path
    ) -> None:
        path = tmp_path / "standalone.onnx"
        onnx.save(standalone, str(path))
        session = on_stand_in(standalone, tmp_path, [None, None])
        plan = GpuPlan(
            providers=[("CUDAExecutionProvider", {}), ("CPUExecutionProvider", {})],
            device_type="cpu",
            device_id=0,
            probe={"waveform": np.zeros((1, 2, SAMPLES), np.float32)},
            free_memory=lambda: None,
        )
        with (
            pytest.warns(UserWarning, match="CUDAExecutionProvider"),
            pytest.raises(DeviceError, match="instead of"),
        ):
            GpuSession(path, session.graph, session.facts, plan)

    def test_inputs_of_a_probe_are_all_that_a_graph_takes(self) -> None:
        asked, stateful = asked_manifest(), remembering_manifest(60)
        probe = opening.probe_inputs(asked.graph, asked, (2, 200))
        assert {name: array.shape for name, array in probe.items()} == {
            "mixture": (1, 2, 200),
            "query": (1, 2),
        }
        probe = opening.probe_inputs(stateful.graph, stateful, (2, 60))
        assert set(probe) == set(stateful.graph.input_names)
        assert probe["memory.in"].dtype == np.float64 and (probe["memory.in"] == 0.5).all()

    def test_a_graph_that_is_asked_runs_with_its_condition(self, tmp_path: Path) -> None:
        """Stem = mixture times the condition's first entry: each window has its own."""
        nodes = [
            onnx.helper.make_node("Slice", ["query", "zero", "one", "one"], ["first"]),
            onnx.helper.make_node("Unsqueeze", ["first", "axes"], ["column"]),
            onnx.helper.make_node("Unsqueeze", ["mixture", "one"], ["stem"]),
            onnx.helper.make_node("Mul", ["stem", "column"], ["stems"]),
        ]
        shapes = {"mixture": ("batch", 2, 200), "query": ("batch", 2), "stems": ("batch", 1, 2, 200)}
        ports = {
            name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        }
        constants = [
            onnx.numpy_helper.from_array(np.asarray(values, np.int64), name)
            for name, values in (("zero", [0]), ("one", [1]), ("axes", [2, 3]))
        ]
        graph = onnx.helper.make_graph(
            nodes, "asked", [ports["mixture"], ports["query"]], [ports["stems"]], constants
        )
        onnx.save(
            onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10),
            str(tmp_path / "asked.onnx"),
        )
        manifest = asked_manifest()
        plan = GpuPlan(
            providers=[("CPUExecutionProvider", {})],
            device_type="cpu",
            device_id=0,
            probe=opening.probe_inputs(manifest.graph, manifest, (2, 200)),
            free_memory=iter([10 << 30, 8 << 30]).__next__,
        )
        session = GpuSession(tmp_path / "asked.onnx", manifest.graph, STAND_IN, plan)
        assert session.facts.batch_limit == 4
        samples = np.random.default_rng(0).standard_normal((3, 2, 200)).astype(np.float32)
        conditions = np.asarray([[0.5, 9], [2, 9], [-1, 9]], np.float32)
        stems = session.run({"mixture": samples, "query": conditions})["stems"]
        np.testing.assert_allclose(stems[:, 0], samples * conditions[:, :1, None], rtol=1e-6)

    def test_tensorrt_knows_the_shapes_of_all_inputs_or_of_none(self, tmp_path: Path) -> None:
        shapes = {"magnitude": (1, 33, 17), "query": (5,)}
        options = tensorrt_options(0, cache=tmp_path, shapes=shapes, half=False)
        assert options["trt_profile_min_shapes"] == "magnitude:1x1x33x17,query:1x5"
        assert (
            options["trt_profile_max_shapes"] == f"magnitude:{LARGEST_BATCH}x1x33x17,query:{LARGEST_BATCH}x5"
        )
        assert not [
            name for name in tensorrt_options(0, cache=tmp_path, shapes={}, half=True) if "shapes" in name
        ]

    def test_float16_keeps_the_signature(self, tmp_path: Path) -> None:
        core = in_float16(gain_graph(4, 2, SAMPLES, GAINS))
        assert core.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in core.graph.initializer)

    def test_out_of_memory_is_told_from_other_failures(self) -> None:
        for text in (
            "Failed to allocate memory for requested buffer of size 1",
            "CUDA failure 2: out of memory",
        ):
            assert isinstance(translate_failure(RuntimeError(text)), OutOfMemoryError)
        assert isinstance(translate_failure(MemoryError()), OutOfMemoryError)
        assert isinstance(translate_failure(RuntimeError("something else")), InternalError)

    def test_tensorrt_profiles_name_the_shapes(self, tmp_path: Path) -> None:
        found = tensorrt_options(1, cache=tmp_path, shapes={"waveform": (2, 100)}, half=True)
        assert found["trt_profile_max_shapes"] == f"waveform:{LARGEST_BATCH}x2x100"
        assert found["trt_fp16_enable"] == "1"


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_on_a_card(model: Model, tmp_path: Path, precision: str) -> None:
    session = open_session(model, options(tmp_path, "cuda", precision=precision))
    assert session.facts.provider == "cuda"
    x = mixture(3)
    stems = session.run({"waveform": x})["stems"]
    np.testing.assert_allclose(
        stems[:, 0], GAINS[0] * x, rtol=1e-6 if precision == "float32" else 1e-2, atol=1e-3
    )
