"""Cnn14: the network against its published count, the graph against the network, the importer."""

from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import onnxruntime as ort
import pytest
import torch

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError, OutputError
from stemwright.core.features import Features
from stemwright.models.checkpoints import read_checkpoint
from stemwright.models.manifest import Licence
from stemwright.models.registry.families import family_of
from stemwright.models.registry.importing import ImportOptions, import_file
from stemwright.models.registry.store import InstalledTagger, ModelStore
from stemwright.models.sessions.runtimes.contract import SessionOptions
from stemwright.models.taggers.cnn14.building import BANDS, CNN14, PARAMETERS, TRANSFORM
from stemwright.models.taggers.cnn14.graph import cnn14_graph
from stemwright.models.taggers.cnn14.network import Cnn14
from stemwright.models.taggers.session import TaggerSession

TINY = (4, 6, 8, 8, 10, 12)
Spoil = Callable[[dict[str, torch.Tensor]], None]


def random_network(channels: tuple[int, ...] = TINY, seed: int = 0) -> Cnn14:
    torch.manual_seed(seed)
    net = Cnn14(channels).eval()
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if "running_var" in name or name.endswith(("bn1.weight", "bn2.weight", "bn0.weight")):
                value.uniform_(0.5, 1.5)
            elif "running_mean" in name or name.endswith("bias"):
                value.normal_(0, 0.1)
        net.bn0.state_dict()["running_mean"].fill_(-40.0)
        net.bn0.state_dict()["running_var"].fill_(400.0)
    return net


def agree(licence: Licence) -> bool:
    return True


def front_end(
    sample_rate: int = 32000, n_fft: int = 1024, high_hz: float = 14000.0
) -> dict[str, torch.Tensor]:
    """The tensors that PANNs' files carry of torchlibrosa's front end."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    angles = 2 * np.pi * np.outer(np.arange(n_fft // 2 + 1), np.arange(n_fft)) / n_fft
    low_hz = 50.0
    mel = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=64, fmin=low_hz, fmax=high_hz)
    return {
        "spectrogram_extractor.stft.conv_real.weight": torch.tensor(
            (np.cos(angles) * window)[:, None], dtype=torch.float32
        ),
        "logmel_extractor.melW": torch.tensor(mel.T),
    }


def checkpoint(path: Path, spoil: Spoil | None = None, front: dict[str, torch.Tensor] | None = None) -> Path:
    """Write a file in the form of PANNs' own."""
    state = {**(front_end() if front is None else front), **random_network().state_dict()}
    if spoil is not None:
        spoil(state)
    torch.save({"iteration": 600000, "model": state}, path)
    return path


def feature_noise(frames: int, batch: int = 2) -> FloatArray:
    return np.random.default_rng(frames).normal(-40, 20, (batch, frames, 64)).astype(np.float32)


def test_count_of_parameters() -> None:
    with torch.device("meta"):
        net = Cnn14()
    assert sum(parameter.numel() for parameter in net.parameters()) == PARAMETERS == 80_753_615


@pytest.mark.parametrize("frames", [32, 33, 100, 201])
def test_graph_is_the_network(frames: int) -> None:
    net = random_network()
    tensors = {name: value.numpy() for name, value in net.state_dict().items() if value.is_floating_point()}
    session = ort.InferenceSession(
        cnn14_graph(tensors, "float32").SerializeToString(), providers=["CPUExecutionProvider"]
    )
    given = feature_noise(frames)
    with torch.no_grad():
        expected = [value.numpy() for value in net(torch.from_numpy(given))]
    for got, wanted in zip(
        session.run(["probabilities", "embedding"], {"features": given}), expected, strict=True
    ):
        np.testing.assert_allclose(got, wanted, atol=1e-4 * max(1.0, float(np.abs(wanted).max())))


def test_import_and_hear(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "Cnn14_mAP=0.431.pth")
    assert family_of(read_checkpoint(path)) is CNN14
    store = ModelStore(tmp_path / "models")
    tagger = import_file(path, store, ask=agree, options=ImportOptions(name="cnn14"))
    assert isinstance(tagger, InstalledTagger)
    store.verify("cnn14")
    assert (len(tagger.manifest.classes), tagger.manifest.embedding_size) == (527, TINY[-1])
    assert tagger.manifest.origin.source == str(path)
    session = TaggerSession(store.find_tagger("cnn14"), SessionOptions(device="cpu", threads=1))
    sound = np.random.default_rng(0).uniform(-0.3, 0.3, (1, 64_000)).astype(np.float32)
    features = Features(transform=TRANSFORM, bands=BANDS, sample_rate=32000).compute(sound)
    with torch.no_grad():
        probabilities, embedding = random_network()(torch.from_numpy(features))
    heard = session.segment(sound, 32000)
    np.testing.assert_allclose(heard.probabilities, probabilities[0].numpy(), atol=1e-4)
    np.testing.assert_allclose(heard.embedding, embedding[0].numpy(), atol=1e-4)
    session.segment(sound[:, :100], 32000)  # shorter than the network can take: filled up
    with pytest.raises(OutputError, match="is installed"):
        import_file(path, store, ask=agree, options=ImportOptions(name="cnn14"))


@pytest.mark.parametrize(
    ("name", "front"),
    [
        ("Cnn14_DecisionLevelMax_mAP=0.385.pth", front_end()),
        ("Cnn14_16k_mAP=0.438.pth", front_end(16000, 512, 8000.0)),
        ("renamed.pth", front_end(16000, 512, 8000.0)),
        ("renamed.pth", front_end(32000, 1024, 16000.0)),
        ("without.pth", {}),
    ],
)
def test_variants_with_the_same_tensors_are_refused(
    tmp_path: Path, name: str, front: dict[str, torch.Tensor]
) -> None:
    path = checkpoint(tmp_path / name, front=front)
    with pytest.raises(ModelFileError) as caught:
        family_of(read_checkpoint(path)).architecture_of(read_checkpoint(path))
    assert "--like cnn14" in caught.value.remedy


def test_a_file_without_front_end_is_believed_by_word(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "stripped.pth", front={})
    options = ImportOptions(name="ears", like="cnn14")
    tagger = import_file(path, ModelStore(tmp_path / "models"), ask=agree, options=options)
    assert tagger.manifest.family == "cnn14"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("conv_block3.bn1.weight"), "conv_block3.bn1.weight"),
        (
            lambda state: state.update({"conv_block2.conv1.weight": torch.zeros(3, 4, 3, 3)}),
            "conv_block2.conv1",
        ),
        (lambda state: state.update({"bn0.running_var": -torch.ones(64)}), "bn0"),
        (lambda state: state.update({"fc_audioset.weight": torch.zeros(50, 12)}), "50 classes"),
        (lambda state: state.update({"fc1.bias": torch.full((12,), torch.nan)}), "not finite"),
    ],
)
def test_damaged_checkpoints_are_refused(tmp_path: Path, spoil: Spoil, message: str) -> None:
    path = checkpoint(tmp_path / "Cnn14.pth", spoil)
    store = ModelStore(tmp_path / "models")
    with pytest.raises(ModelFileError, match=message):
        import_file(path, store, ask=agree, options=ImportOptions(name="cnn14"))
    assert store.names() == ()


@pytest.mark.long
def test_true_size(tmp_path: Path) -> None:
    """327 MB of weights: the graph of the true network within 1e-4, and its file's size."""
    net = Cnn14().eval()
    tensors = {name: value.numpy() for name, value in net.state_dict().items() if value.is_floating_point()}
    path = tmp_path / "cnn14.onnx"
    path.write_bytes(cnn14_graph(tensors, "float16").SerializeToString())
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = feature_noise(201, 1)
    with torch.no_grad():
        expected = [value.numpy() for value in net(torch.from_numpy(given))]
    for got, wanted in zip(
        session.run(["probabilities", "embedding"], {"features": given}), expected, strict=True
    ):
        np.testing.assert_allclose(got, wanted, atol=1e-4 * max(1.0, float(np.abs(wanted).max())))
