"""The YAMNet that is shipped, against TensorFlow Lite's builtin kernels on the same input.

The kernels' own rounding is part of the stored inputs (scripts/make_yamnet_case.py), so that what is left is
float32.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from convert_yamnet import convert, yamnet_classes
from make_yamnet_case import INT8_LAYERS, waveform

from stemwright.core.arrays import FloatArray
from stemwright.core.features import Features
from stemwright.models.query.ontology import LABELS_FILE, audioset
from stemwright.models.registry.store import SHIPPED, ModelStore, open_tagger
from stemwright.models.sessions.runtimes.contract import SessionOptions
from stemwright.models.taggers.session import TaggerSession
from tests.support.paths import shared

CASE = np.load(Path(__file__).parent / "yamnet_case.npz")
MODEL = onnx.load(str(SHIPPED["yamnet"] / "model.onnx"))
FLOAT_LAYERS = (0, 1)


def part(names: tuple[str, ...], given: str, wanted: str) -> ort.InferenceSession:
    """Cut nodes out of the shipped graph."""
    nodes = [node for node in MODEL.graph.node if node.name in names]
    used = {name for node in nodes for name in node.input}
    ports = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in (given, wanted)
    ]
    constants = [constant for constant in MODEL.graph.initializer if constant.name in used]
    graph = onnx.helper.make_graph(nodes, "part", ports[:1], ports[1:], constants)
    made = onnx.helper.make_model(graph, opset_imports=MODEL.opset_import, ir_version=10)
    return ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])


def layer(number: int, given: FloatArray) -> FloatArray:
    name = f"layer_{number}"
    source = "image" if number == 0 else f"layer_{number - 1}"
    session = part((name, f"{name}_sum", f"{name}_weight"), source, name)
    return np.asarray(session.run([name], {source: given})[0])


def check(number: int, got: FloatArray) -> None:
    error = np.abs(got.ravel()[CASE[f"places_{number}"]] - CASE[f"output_{number}"]).max()
    assert error <= 1e-4 * CASE[f"largest_{number}"]


def test_float_layers() -> None:
    first = layer(0, CASE["patch"][None, None])
    check(0, first)
    check(1, layer(1, first))


@pytest.mark.parametrize("number", INT8_LAYERS)
def test_layers_of_8_bits_on_the_input_that_the_kernel_saw(number: int) -> None:
    given = CASE[f"input_{number}"].astype(np.float32) * CASE[f"input_{number}_scale"]
    check(number, layer(number, given[None]))


def test_scores_of_the_embedding_that_the_kernel_saw() -> None:
    session = part(("dense_weight", "logits", "probabilities"), "embedding", "probabilities")
    given = CASE["embedding"].astype(np.float32) * CASE["embedding_scale"]
    (scores,) = session.run(["probabilities"], {"embedding": given[None]})
    np.testing.assert_allclose(scores[0], CASE["scores"], atol=1e-5)


def test_front_end() -> None:
    """The file's matrix is ours in 8 bits, and its features are ours up to values between two steps."""
    manifest = open_tagger("yamnet", ModelStore(Path("absent"))).manifest
    ours = manifest.bands.matrix(n_fft=512, bins=257, sample_rate=16000)
    steps = np.rint(ours / CASE["mel_scale"]).astype(np.int64)
    assert np.abs(steps - CASE["mel_matrix"]).max() <= 1 and np.mean(steps != CASE["mel_matrix"]) < 1e-3
    np.testing.assert_allclose(ours.max(), CASE["mel_matrix"].max() * CASE["mel_scale"], rtol=1e-5)
    features = Features(transform=manifest.transform, bands=manifest.bands, sample_rate=16000)
    difference = np.abs(features.compute(waveform()) - CASE["patch"])
    assert np.percentile(difference, 99) < 1e-4 and difference.max() < 0.05


def test_classes_are_those_of_yamnet() -> None:
    classes = open_tagger("yamnet", ModelStore(Path("absent"))).manifest.classes
    assert len(classes) == 521 and classes == yamnet_classes(LABELS_FILE)
    dropped = {"Male singing", "Female singing", "Battle cry", "Funny music"}
    names = {audioset()[mid].name for mid in audioset().labels if mid not in classes}
    assert dropped < names and len(names) == 6


def test_the_shipped_files_are_whole_and_licensed() -> None:
    store = ModelStore(Path("absent"))
    store.verify("yamnet")
    assert (SHIPPED["yamnet"] / "model.onnx").stat().st_size < 10e6
    assert "Apache License" in (SHIPPED["yamnet"] / "LICENSE").read_text()
    assert store.find_tagger("yamnet").manifest.licence.name == "Apache-2.0"


@pytest.fixture(scope="module")
def session() -> TaggerSession:
    return TaggerSession(open_tagger("yamnet", ModelStore(Path("absent"))), SessionOptions(device="cpu"))


def test_openvino_hears_the_same(session: TaggerSession) -> None:
    pytest.importorskip("openvino")
    other = TaggerSession(
        open_tagger("yamnet", ModelStore(Path("absent"))), SessionOptions(device="openvino", threads=1)
    )
    sound = waveform()[None]
    ours, theirs = session.segment(sound, 16000), other.segment(sound, 16000)
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-4)
    np.testing.assert_allclose(ours.embedding, theirs.embedding, atol=1e-3)


def test_silence_is_called_silence(session: TaggerSession) -> None:
    result = session.segment(np.zeros((2, 88200), np.float32), 44100)
    best = session.manifest.classes[int(result.probabilities.argmax())]
    assert audioset()[best].name == "Silence"


# By hand: the real file and the 40 recordings.


@pytest.mark.long
def test_conversion_gives_the_shipped_graph() -> None:
    made = convert(shared("data", "yamnet", "yamnet.tflite").read_bytes())
    assert made.SerializeToString() == MODEL.SerializeToString()


@pytest.mark.long
def test_clips_have_the_same_class(session: TaggerSession) -> None:
    """The 40 clips, resampled by a polyphase filter, whole patches, means over a clip."""
    import scipy.signal
    import soundfile
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    settings: dict[str, Any] = {"experimental_preserve_all_tensors": True}
    settings["experimental_op_resolver_type"] = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    theirs = Interpreter(str(shared("data", "yamnet", "yamnet.tflite")), **settings)
    theirs.allocate_tensors()
    same = 0
    clips = sorted(shared("data", "sound_events").glob("*.ogg"))
    for clip in clips:
        samples, rate = soundfile.read(clip, dtype="float32")
        assert rate == 44100
        sound = scipy.signal.resample_poly(samples, 160, 441).astype(np.float32)
        scores = []
        for start in range(0, len(sound) - 15_600 + 1, 7_680):
            theirs.set_tensor(0, sound[start : start + 15_600])
            theirs.invoke()
            scores.append(theirs.get_tensor(114)[0].copy())
        frames = session._features.compute(sound)
        patches = [frames[48 * number : 48 * number + 96] for number in range(len(scores))]
        ours = session._runtime.run(np.stack(patches))[0]
        same += int(ours.mean(axis=0).argmax() == np.mean(scores, axis=0).argmax())
    assert len(clips) == 40 and same >= 38
