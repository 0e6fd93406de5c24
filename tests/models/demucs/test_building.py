"""From checkpoints of the true architectures, random weights, to model folders."""

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from demucs.htdemucs import HTDemucs

from stemwright.core.errors import ModelFileError, OutputError
from stemwright.models.checkpoints import Checkpoint, content_digest, read_checkpoint
from stemwright.models.checkpoints.checkpoint import FloatArray
from stemwright.models.demucs.architectures import (
    ARCHITECTURES,
    OFFICIAL_LICENCE,
    SIX_STEMS,
    Architecture,
)
from stemwright.models.demucs.building import build_model_folder
from stemwright.models.graphs.roles import model_inputs, stems_from_outputs
from stemwright.models.graphs.weightless import WeightlessGraph
from stemwright.models.manifest import UNKNOWN_LICENCE, WeightsOrigin, read_manifest
from tests.support.demucs_files import RELEASED_HTDEMUCS, STEMS, randomise, write_th

CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "htdemucs": ("demucs.htdemucs.HTDemucs", {"sources": STEMS, **RELEASED_HTDEMUCS}),
    "htdemucs_6s": (
        "demucs.htdemucs.HTDemucs",
        {"sources": list(SIX_STEMS), "dconv_mode": 3, "segment": Fraction(39, 5)},
    ),
    "hdemucs": ("demucs.hdemucs.HDemucs", {"sources": STEMS}),
}


def random_checkpoint(architecture: Architecture) -> Checkpoint:
    """Weights of the true architecture, float16 as in the released files; fast to make, not normal."""
    source = np.random.default_rng(0)
    tensors: dict[str, FloatArray] = {
        name: source.integers(-999, 1000, shape, np.int16).astype(np.float16) / np.float16(16384)
        for name, shape in WeightlessGraph.read(architecture.graph_path).tensor_shapes.items()
    }
    klass, kwargs = CLASSES[architecture.name]
    return Checkpoint(tensors=tensors, klass=klass, kwargs=kwargs, kind="torch")


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_folder_of_every_architecture(name: str, tmp_path: Path) -> None:
    architecture = ARCHITECTURES[name]
    checkpoint = random_checkpoint(architecture)
    origin = WeightsOrigin(source="a test")
    built = build_model_folder(
        checkpoint, name="mine", folder=tmp_path, licence=OFFICIAL_LICENCE, origin=origin
    )
    manifest = read_manifest(tmp_path)
    assert manifest == built
    assert built.stems == architecture.config.sources
    assert built.licence.must_accept
    assert "MUSDB" in built.training_data
    assert (built.origin.source, built.origin.content_sha256) == (
        "a test",
        content_digest(checkpoint.tensors),
    )
    (record,) = built.files
    data = (tmp_path / record.path).read_bytes()
    assert (record.size, record.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    # two bytes a weight, and at most 4 MB for position codes, small tensors and the graph
    assert record.size < 2 * architecture.parameters + 4_000_000
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert {value.name for value in session.get_inputs()} == {port.name for port in built.graph.inputs}


@pytest.fixture(scope="module")
def small_tensors() -> Iterator[dict[str, FloatArray]]:
    yield random_checkpoint(ARCHITECTURES["htdemucs_6s"]).tensors  # type: ignore[misc]


def small(tensors: dict[str, FloatArray], **changes: Any) -> Checkpoint:
    klass, kwargs = CLASSES["htdemucs_6s"]
    return Checkpoint(tensors=tensors, klass=klass, kwargs={**kwargs, **changes}, kind="torch")


def test_user_s_own_weights_get_no_claims(small_tensors: dict[str, FloatArray], tmp_path: Path) -> None:
    names = ["a", "b", "c", "d", "e", "f"]
    built = build_model_folder(small(small_tensors, sources=names), name="mine", folder=tmp_path)
    assert built.licence == UNKNOWN_LICENCE
    assert built.training_data == ""
    assert built.stems == tuple(names)


def test_tensors_that_do_not_fit(small_tensors: dict[str, FloatArray], tmp_path: Path) -> None:
    missing = dict(small_tensors)
    del missing["encoder.0.conv.bias"]
    with pytest.raises(ModelFileError, match=r"encoder\.0\.conv\.bias"):
        build_model_folder(small(missing), name="mine", folder=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "sources"),
    [("../up", list(SIX_STEMS)), ("", list(SIX_STEMS)), ("mine", ["a/b", "b", "c", "d", "e", "f"])],
)
def test_names_that_no_manifest_has(
    small_tensors: dict[str, FloatArray], tmp_path: Path, name: str, sources: list[str]
) -> None:
    with pytest.raises(ModelFileError, match="no manifest can be made"):
        build_model_folder(small(small_tensors, sources=sources), name=name, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_written(small_tensors: dict[str, FloatArray], tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        build_model_folder(small(small_tensors), name="mine", folder=tmp_path / "absent")


def test_v1_does_not_fit_in_float32(tmp_path: Path) -> None:
    told = Checkpoint(tensors={}, kind="torch", like="demucs_v1")
    with pytest.raises(ModelFileError, match="2 GiB"):
        build_model_folder(told, name="mine", folder=tmp_path, storage="float32")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_checkpoint_to_stems_as_the_reference_computes_them(tmp_path: Path) -> None:
    """A file written by demucs, read, built and run, against demucs in torch: one true segment."""
    network = randomise(HTDemucs(STEMS, **RELEASED_HTDEMUCS), scale=0.03)
    checkpoint = read_checkpoint(write_th(network, tmp_path / "a.th"))
    folder = tmp_path / "model"
    folder.mkdir()
    manifest = build_model_folder(checkpoint, name="mine", folder=folder)
    samples = manifest.plan.input_samples
    mixture = torch.randn(1, 2, samples, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(mixture).numpy()
    del network
    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    inputs = model_inputs(manifest.graph, mixture.numpy())
    names = [port.name for port in manifest.graph.outputs]
    outputs = dict(zip(names, session.run(names, inputs.arrays), strict=True))
    found = stems_from_outputs(manifest.graph, outputs, inputs.spectrum, samples)
    error = 20 * np.log10(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())
    assert error < -80
