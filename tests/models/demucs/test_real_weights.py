"""Real music through the real HTDemucs, beside the demucs package with the same weights."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.demucs_checkpoint import SIGNATURE, write_checkpoint
from stemwright.core.arrays import FloatArray
from stemwright.core.audio.resample import resampled
from stemwright.core.audio.source import ArraySource, open_source
from stemwright.core.errors import DeviceError
from stemwright.models.registry.store import InstalledModel, ModelStore, open_model
from stemwright.models.separation.separator import Separator
from stemwright.models.sessions.opening import SessionOptions
from tests.support.needs import real_models
from tests.support.paths import EXAMPLES

RATE = 44100
SECONDS = 9.0  # two windows, the second of them short


@pytest.fixture(scope="module")
def model() -> InstalledModel:
    opened = open_model("htdemucs", ModelStore(real_models()))
    assert isinstance(opened, InstalledModel)
    return opened


@pytest.fixture(scope="module")
def mixture() -> FloatArray:
    with open_source(EXAMPLES / "excerpt.opus", end_s=SECONDS) as source:
        return np.concatenate(list(resampled(source.blocks(), source.info.sample_rate, RATE)), axis=1)


@pytest.fixture(scope="module")
def expected(
    model: InstalledModel, mixture: FloatArray, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, FloatArray]:
    import torch
    from demucs.api import Separator as Peer

    repo = tmp_path_factory.mktemp("demucs") / "repo"
    write_checkpoint(model, repo)
    peer = Peer(model=SIGNATURE, repo=repo, shifts=0, overlap=0.25, device="cpu")
    _, stems = peer.separate_tensor(torch.from_numpy(mixture), RATE)
    return {name: stem.numpy() for name, stem in stems.items()}


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_float32_stems_are_those_of_demucs(
    device: str, model: InstalledModel, mixture: FloatArray, expected: dict[str, FloatArray], tmp_path: Path
) -> None:
    options = SessionOptions(device=device, precision="float32", cache_dir=tmp_path)
    with Separator.open(model, options=options) as separator:
        try:
            separator.prepare()
        except DeviceError as refused:
            pytest.skip(f"this machine: {refused.message}")
        errors = [errors_db(separator, mixture, expected) for _ in range(2)]
    assert max(max(found.values()) for found in errors) < -75, errors


def errors_db(separator: Separator, mixture: FloatArray, expected: dict[str, FloatArray]) -> dict[str, float]:
    """Error of each stem below the mixture in dB, over each of its thirds the largest."""
    blocks: dict[str, list[FloatArray]] = {name: [] for name in expected}
    with separator.separate(ArraySource(mixture, RATE)) as separation:
        for block in separation:
            for name, samples in block.stems.items():
                blocks[name].append(samples)
    power = np.sum(mixture.astype(np.float64) ** 2)
    found = {}
    for name, parts in blocks.items():
        wrong = (np.concatenate(parts, axis=1).astype(np.float64) - expected[name]) ** 2
        found[name] = max(10 * np.log10(part.sum() / power) for part in np.array_split(wrong, 3, axis=1))
    return found
