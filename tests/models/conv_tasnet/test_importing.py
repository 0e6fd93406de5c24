"""Checkpoints in the form that each implementation writes, imported without torch."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError, OptionError, StemwrightError
from stemwright.models.checkpoints import read_checkpoint
from stemwright.models.conv_tasnet.configs import MUSIC, tensor_shapes
from stemwright.models.conv_tasnet.family import CONV_TASNET
from stemwright.models.conv_tasnet.origins import LIKE, MUSIC_STEMS, variant_of
from stemwright.models.manifest import Manifest
from stemwright.models.registry.families import family_of
from stemwright.models.registry.store import InstalledModel, open_model
from stemwright.models.sessions.opening import SessionOptions, open_session
from tests.support.conv_tasnet_oracles import (
    ASTEROID_ARGS,
    KAITUOXU_LETTERS,
    AsteroidConvTasNet,
    KaituoxuConvTasNet,
    randomise,
    torchaudio_module,
)


def save(content: object, folder: Path, name: str = "network.pt") -> Path:
    path = folder / name
    torch.save(content, path)
    return path


def imported(path: Path, like: str = "") -> tuple[Manifest, Path]:
    """Build the model folder of a checkpoint as `models import` does."""
    checkpoint = dataclasses.replace(read_checkpoint(path), like=like)
    folder = path.parent / f"model-{like}"
    folder.mkdir()
    assert family_of(checkpoint) is CONV_TASNET
    manifest = CONV_TASNET.build(checkpoint, name="imported", folder=folder)
    assert isinstance(manifest, Manifest)
    return manifest, folder


def stems_of(folder: Path, mixture: FloatArray) -> FloatArray:
    model = open_model(folder)
    assert isinstance(model, InstalledModel)
    session = open_session(model, SessionOptions(device="cpu", cache_dir=folder.parent / "cache"))
    state = {t.input: np.full(t.shape, t.initial, t.dtype) for t in session.graph.state}
    stems = session.run({"mixture": mixture, **state})["stems"]
    session.close()
    return stems


def assert_same(found: FloatArray, expected: torch.Tensor) -> None:
    wanted = expected.numpy().reshape(found.shape)
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def noise(*shape: int) -> FloatArray:
    return (np.random.default_rng(0).standard_normal(shape) * 0.1).astype(np.float32)


def asteroid(folder: Path, **changes: Any) -> tuple[Path, nn.Module]:
    args = ASTEROID_ARGS | changes
    net = AsteroidConvTasNet(args).eval()
    randomise(net)
    infos = {"software_versions": {"asteroid_version": "0.4.1"}, "task": "sep_clean"}
    content = {"model_name": "ConvTasNet", "state_dict": net.state_dict(), "model_args": args, "infos": infos}
    return save(content, folder, "pytorch_model.bin"), net


@pytest.fixture(scope="module")
def torchaudio_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    net = torchaudio_module().conv_tasnet_base(2).eval()
    assert sum(p.numel() for p in net.parameters()) == 4_984_881
    assert len(net.state_dict()) == 343
    return save(net.state_dict(), tmp_path_factory.mktemp("torchaudio")), net


@torch.no_grad()
def test_torchaudios_pipeline_checkpoint(torchaudio_file: tuple[Path, nn.Module]) -> None:
    path, net = torchaudio_file
    manifest, folder = imported(path, "torchaudio")
    assert manifest.stems == ("speaker1", "speaker2")
    assert (manifest.stem_kind, manifest.task) == ("interchangeable", "speech")
    assert manifest.scale_fit is not None
    assert (manifest.audio.sample_rate, manifest.audio.channels, manifest.audio.mode) == (8000, 1, "downmix")
    mixture = noise(1, 1, 1600)
    assert_same(stems_of(folder, mixture), net(torch.from_numpy(mixture)))


def test_how_torchaudios_masks_are_made_has_to_be_said(torchaudio_file: tuple[Path, nn.Module]) -> None:
    checkpoint = read_checkpoint(torchaudio_file[0])
    assert family_of(checkpoint) is CONV_TASNET
    with pytest.raises(ModelFileError, match="does not say how its masks are made") as refused:
        variant_of(checkpoint)
    assert "--like torchaudio" in refused.value.remedy
    for like, mask, rate in (("torchaudio", "relu", 8000), ("torchaudio-sigmoid-16k", "sigmoid", 16_000)):
        config = variant_of(dataclasses.replace(checkpoint, like=like)).config
        assert (config.mask, config.sample_rate) == (mask, rate)


def test_another_like_than_the_files_is_refused(torchaudio_file: tuple[Path, nn.Module]) -> None:
    checkpoint = read_checkpoint(torchaudio_file[0])
    for like in ("asteroid-8k", "kaituoxu-8k", "demucs-tasnet"):
        with pytest.raises(ModelFileError, match=f"not named as those of {like}"):
            variant_of(dataclasses.replace(checkpoint, like=like))
    with pytest.raises(OptionError, match="no network is known as wavenet"):
        family_of(dataclasses.replace(checkpoint, like="wavenet"))
    assert len(set(LIKE)) == len(LIKE)


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mask_act": "relu", "n_src": 3},
        {"mask_act": "softmax", "encoder_activation": "relu"},
        {"skip_chan": 0},
        {"norm_type": "cLN"},
        {"norm_type": "cLN", "causal": True},
        {"norm_type": "cgLN", "causal": True},
        {"kernel_size": 16, "stride": 8, "sample_rate": 16_000.0},
        {"n_src": 1},
    ],
    ids=str,
)
def test_asteroids_checkpoint(tmp_path: Path, changes: dict[str, Any]) -> None:
    path, net = asteroid(tmp_path, **changes)
    manifest, folder = imported(path)
    args = ASTEROID_ARGS | changes
    assert len(manifest.stems) == args["n_src"]
    assert manifest.audio.sample_rate == args["sample_rate"]
    mixture = noise(1, 1, 320)
    expected = net(torch.from_numpy(mixture))
    found = stems_of(folder, mixture)
    if manifest.streaming is None:
        assert_same(found, expected)
    else:
        lag = manifest.streaming.latency_samples
        assert lag == args["stride"]
        # The last hop of the reference is in one frame only; the stream goes on, and ends later.
        assert_same(found[..., lag:], expected[..., :-lag])


def test_asteroids_names_of_norms_are_told_apart(tmp_path: Path) -> None:
    kinds = {}
    for index, (norm, causal) in enumerate(
        [("gLN", False), ("cLN", True), ("cgLN", True), ("gLN", True), ("cLN", False)]
    ):
        folder = tmp_path / str(index)
        folder.mkdir()
        path, _ = asteroid(folder, norm_type=norm, causal=causal)
        config = variant_of(read_checkpoint(path)).config
        kinds[norm, causal] = (config.norm, config.streamable)
        assert config.input_norm == config.norm
    assert kinds == {
        ("gLN", False): ("global", False),
        ("cLN", True): ("channel", True),
        ("cgLN", True): ("cumulative", True),
        ("gLN", True): ("channel", True),  # asteroid changes that one itself
        ("cLN", False): ("channel", False),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"norm_type": "BN"},
        {"mask_act": "tanh"},
        {"fb_name": "STFTFB"},
        {"stride": 2},
        {"n_src": None},
        {"out_chan": 32},
        {"conv_kernel_size": 4},
        {"n_src": 2.0},
    ],
    ids=str,
)
def test_asteroids_other_networks_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path, _ = asteroid(tmp_path)
    content = torch.load(path)
    content["model_args"] |= changes
    with pytest.raises(ModelFileError) as refused:
        variant_of(read_checkpoint(save(content, tmp_path)))
    assert refused.value.remedy


def test_asteroids_missing_rate_has_to_be_said(tmp_path: Path) -> None:
    path, _ = asteroid(tmp_path)
    content = torch.load(path)
    with pytest.raises(ModelFileError, match="for 8000 Hz, not for 16000"):
        variant_of(dataclasses.replace(read_checkpoint(path), like="asteroid-16k"))
    del content["model_args"]["sample_rate"]
    checkpoint = read_checkpoint(save(content, tmp_path))
    with pytest.raises(ModelFileError, match="does not say its sample rate") as refused:
        variant_of(checkpoint)
    assert "--like asteroid-16k" in refused.value.remedy
    assert variant_of(dataclasses.replace(checkpoint, like="asteroid-16k")).config.sample_rate == 16_000


def test_a_plain_state_dict_with_asteroids_names_is_refused(tmp_path: Path) -> None:
    _, net = asteroid(tmp_path)
    with pytest.raises(ModelFileError, match="model_args"):
        variant_of(read_checkpoint(save(net.state_dict(), tmp_path)))


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_type": "cLN", "causal": 1},
        {"norm_type": "gLN", "causal": True},
        {"mask_nonlinear": "softmax"},
    ],
    ids=str,
)
def test_kaituoxus_dictionary(tmp_path: Path, changes: dict[str, Any]) -> None:
    letters = KAITUOXU_LETTERS | changes
    net = KaituoxuConvTasNet(letters).eval()
    randomise(net)
    optimiser = torch.optim.Adam(net.parameters()).state_dict()
    content = {**letters, "state_dict": net.state_dict(), "optim_dict": optimiser, "epoch": 3}
    path = save({**content, "tr_loss": torch.zeros(3), "cv_loss": torch.zeros(3)}, tmp_path)
    with pytest.raises(ModelFileError, match="does not say its sample rate"):
        variant_of(read_checkpoint(path))
    manifest, folder = imported(path, "kaituoxu-8k")
    mixture = noise(1, 1, 320)
    expected = net(torch.from_numpy(mixture))
    found = stems_of(folder, mixture)
    if manifest.streaming is None:
        assert_same(found, expected)
    else:
        lag = manifest.streaming.latency_samples
        assert_same(found[..., lag:], expected[..., :-lag])


def music_net(**letters: Any) -> KaituoxuConvTasNet:
    net = KaituoxuConvTasNet(KAITUOXU_LETTERS | {"C": 4} | letters, audio_channels=2).eval()
    randomise(net)
    return net


@torch.no_grad()
def test_demucs_package(tmp_path: Path) -> None:
    net = music_net()
    klass = type("ConvTasNet", (), {"__module__": "demucs.tasnet"})
    kwargs = {key: KAITUOXU_LETTERS[key] for key in "NLBHPXR"} | {"samplerate": 44100, "audio_channels": 2}
    with pytest.MonkeyPatch.context() as patch:
        module = type(pytest)("demucs.tasnet")
        module.ConvTasNet = klass  # type: ignore[attr-defined]
        patch.setitem(__import__("sys").modules, "demucs.tasnet", module)
        content = {"klass": klass, "args": (list("abcd"),), "kwargs": kwargs, "state": net.state_dict()}
        path = save(content, tmp_path, "mine.th")
    manifest, folder = imported(path)
    assert (manifest.stems, manifest.stem_kind, manifest.scale_fit) == (tuple("abcd"), "fixed", None)
    assert manifest.normalisation is not None
    mixture = noise(1, 2, 320)
    assert_same(stems_of(folder, mixture), net(torch.from_numpy(mixture)))


@pytest.mark.slow
@torch.no_grad()
def test_demucs_v2s_music_network_by_its_files_name(tmp_path: Path) -> None:
    net = music_net(N=256, L=20, B=256, H=512, X=10, R=4)
    assert sum(p.numel() for p in net.parameters()) == 10_977_872
    path = save(net.state_dict(), tmp_path, "tasnet-beb46fac.th")
    manifest, folder = imported(path)
    assert (manifest.stems, manifest.stem_kind) == (MUSIC_STEMS, "fixed")
    assert (manifest.plan.input_samples, manifest.plan.overlap) == (352_800, 0.25)
    assert variant_of(read_checkpoint(path)).config == MUSIC
    mixture = noise(1, 2, 1000)
    assert_same(stems_of(folder, mixture), net(torch.from_numpy(mixture)))
    other = path.rename(tmp_path / "another.th")
    with pytest.raises(ModelFileError, match="does not say which Conv-TasNet") as refused:
        variant_of(read_checkpoint(other))
    assert "--like demucs-tasnet" in refused.value.remedy
    assert variant_of(dataclasses.replace(read_checkpoint(other), like="demucs-tasnet")).config == MUSIC


def test_tensors_that_are_missing_or_left_over_are_told(tmp_path: Path) -> None:
    path, _ = asteroid(tmp_path)
    for change in ("missing", "left", "size"):
        content = torch.load(path)
        state = content["state_dict"]
        if change == "missing":
            del state["masker.TCN.1.res_conv.bias"]
        elif change == "left":
            state["masker.TCN.9.res_conv.bias"] = torch.zeros(8)
        else:
            state["masker.TCN.1.res_conv.bias"] = torch.zeros(9)
        with pytest.raises(StemwrightError, match=r"masker\.TCN\.\d\.res_conv\.bias"):
            imported_in(tmp_path / change, content)


def imported_in(folder: Path, content: object) -> None:
    folder.mkdir()
    imported(save(content, folder))


def test_every_tensor_of_a_variant_has_a_name_of_its_own(tmp_path: Path) -> None:
    path, net = asteroid(tmp_path)
    config = variant_of(read_checkpoint(path)).config
    assert sum(int(np.prod(shape)) for shape in tensor_shapes(config).values()) == sum(
        p.numel() for p in net.parameters()
    )
