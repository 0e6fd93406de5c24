"""State dicts that do not say what they are: v2's by the names of their files, torchaudio's by its keys."""

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import Checkpoint, read_checkpoint
from stemwright.models.demucs.architectures import ARCHITECTURES
from stemwright.models.demucs.checkpoints import architecture_of, sources_of
from stemwright.models.demucs.configs import MUSIC_STEMS, HDemucsConfig, PaperDemucsConfig
from stemwright.models.demucs.network import build_network
from stemwright.models.demucs.plain_states import renamed_tensors
from stemwright.models.graphs.weightless import WeightlessGraph
from stemwright.models.registry.families import family_of
from tests.support.demucs_files import randomise


def torchaudio_hdemucs() -> Any:
    """The module of torchaudio alone: the package does not import beside this torch."""
    files = importlib.metadata.files("torchaudio") or []
    path = next(file.locate() for file in files if str(file).endswith("models/_hdemucs.py"))
    spec = importlib.util.spec_from_file_location("_hdemucs", str(path))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("demucs-e07c671f.th", "demucs_v2"),
        ("demucs_extra-3646af93.th", "demucs_v2"),
        ("demucs48_hq-28a1282c.th", "demucs_v2_48"),
    ],
)
def test_files_of_v2_are_known_by_their_names(file_name: str, name: str, tmp_path: Path) -> None:
    state = build_network(PaperDemucsConfig(channels=4)).state_dict()
    torch.save(state, tmp_path / file_name)
    checkpoint = read_checkpoint(tmp_path / file_name)
    assert family_of(checkpoint).name == "demucs"
    assert architecture_of(checkpoint).name == name
    assert sources_of(checkpoint) == MUSIC_STEMS
    for key, tensor in state.items():
        np.testing.assert_array_equal(renamed_tensors(checkpoint)[key], tensor.numpy())


def test_the_same_under_another_name_has_to_be_told(tmp_path: Path) -> None:
    torch.save(build_network(PaperDemucsConfig(channels=4)).state_dict(), tmp_path / "best.th")
    with pytest.raises(ModelFileError, match="does not say which network") as caught:
        family_of(read_checkpoint(tmp_path / "best.th"))
    assert "demucs_v2" in caught.value.remedy


def test_v2_has_the_tensors_of_its_graph() -> None:
    with torch.device("meta"):
        state = build_network(ARCHITECTURES["demucs_v2"].config).state_dict()
    graph = WeightlessGraph.read(ARCHITECTURES["demucs_v2"].graph_path)
    assert graph.tensor_shapes == {name: tuple(value.shape) for name, value in state.items()}


def test_torchaudio_s_file(tmp_path: Path) -> None:
    """Known by its keys; under ours it computes what torchaudio computes."""
    module = torchaudio_hdemucs()
    reference = randomise(module.HDemucs(list(MUSIC_STEMS), channels=4, nfft=4096, depth=6))
    path = tmp_path / "hdemucs_high_trained.pt"
    torch.save(reference.state_dict(), path)
    checkpoint = read_checkpoint(path)
    assert family_of(checkpoint).name == "demucs"
    assert architecture_of(checkpoint).name == "hdemucs"
    network = build_network(HDemucsConfig(channels=4)).eval()
    tensors = {name: torch.from_numpy(value.copy()) for name, value in renamed_tensors(checkpoint).items()}
    network.load_state_dict(tensors, strict=True)
    mixture = torch.randn(1, 2, 20_000, generator=torch.Generator().manual_seed(0)) * 0.3
    with torch.no_grad():
        expected, found = reference(mixture), network(mixture)
    assert float((found - expected).abs().max() / expected.std()) < 1e-5


def test_torchaudio_s_number_of_parameters() -> None:
    with torch.device("meta"):
        reference = torchaudio_hdemucs().hdemucs_high(list(MUSIC_STEMS))
    assert sum(parameter.numel() for parameter in reference.parameters()) == 83_639_368
    tensors = {name: np.empty(0, np.float32) for name in reference.state_dict()}
    renamed = renamed_tensors(Checkpoint(tensors=tensors, kind="torch"))
    assert set(renamed) == set(WeightlessGraph.read(ARCHITECTURES["hdemucs"].graph_path).tensor_shapes)
