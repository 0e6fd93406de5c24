"""Which graph a checkpoint gets, by its class and arguments."""

import dataclasses
from fractions import Fraction
from typing import Any

import pytest
from demucs.demucs import Demucs
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.demucs import checkpoints
from stemwright.models.demucs.architectures import SIX_STEMS
from stemwright.models.demucs.checkpoints import architecture_of, config_of
from stemwright.models.demucs.configs import HDemucsConfig, HTDemucsConfig, TimeDemucsConfig
from tests.support.demucs_files import RELEASED_HTDEMUCS, STEMS

HT, HD, D3 = "demucs.htdemucs.HTDemucs", "demucs.hdemucs.HDemucs", "demucs.demucs.Demucs"


def checkpoint(klass: str, *args: Any, **kwargs: Any) -> Checkpoint:
    return Checkpoint(tensors={}, klass=klass, args=args, kwargs=kwargs, kind="torch")


def defaults_of(klass: type) -> dict[str, Any]:
    import inspect

    parameters = inspect.signature(klass).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (checkpoint(HT, sources=STEMS, **RELEASED_HTDEMUCS), "htdemucs"),
        (checkpoint(HT, STEMS, **RELEASED_HTDEMUCS), "htdemucs"),
        (checkpoint(HT, sources=tuple(STEMS), **RELEASED_HTDEMUCS), "htdemucs"),
        (checkpoint(HT, sources=list(SIX_STEMS), dconv_mode=3, segment=Fraction(39, 5)), "htdemucs_6s"),
        (checkpoint(HD, sources=STEMS), "hdemucs"),
        (checkpoint(HD, sources=STEMS, segment=44, samplerate=44100), "hdemucs"),
        (checkpoint(HD, sources=STEMS, hybrid_old=True), "hdemucs_early"),
        (checkpoint("demucs.wdemucs.WDemucs", sources=STEMS), "hdemucs"),
        (checkpoint(D3, STEMS), "demucs_v3"),
        (checkpoint(D3, sources=STEMS, normalize=False, segment=44), "demucs_v3_plain"),
    ],
)
def test_released_networks(given: Checkpoint, name: str) -> None:
    assert architecture_of(given).name == name


def test_every_default_written_out_changes_nothing() -> None:
    written = {**defaults_of(HTDemucs), **RELEASED_HTDEMUCS}
    assert architecture_of(checkpoint(HT, sources=STEMS, **written)).name == "htdemucs"
    assert architecture_of(checkpoint(HD, sources=STEMS, **defaults_of(HDemucs))).name == "hdemucs"


@pytest.mark.parametrize(
    ("klass", "known"),
    [
        (HTDemucs, checkpoints._HTDEMUCS_DEFAULTS),
        (HDemucs, checkpoints._HDEMUCS_DEFAULTS),
        (Demucs, checkpoints._DEMUCS_DEFAULTS),
    ],
)
def test_defaults_are_those_of_the_reference(klass: type, known: dict[str, Any]) -> None:
    actual = defaults_of(klass)
    assert known == {name: actual[name] for name in known}


@pytest.mark.parametrize(
    "harmless",
    [
        {"t_dropout": 0.02},
        {"t_lr": 1e-4, "t_weight_decay": 0.1},
        {"rescale": 0.05, "dconv_init": 1e-4, "emb_smooth": False},
        {"multi_freqs": [], "multi_freqs_depth": 3},
        {"t_cape_augment": False, "t_mask_type": "random", "t_sparsity": 0.5},
        {"an argument of a later version": 3},
        {"t_hidden_scale": 4, "growth": 2.0},
    ],
)
def test_arguments_that_change_nothing(harmless: dict[str, Any]) -> None:
    assert (
        architecture_of(checkpoint(HT, sources=STEMS, **{**RELEASED_HTDEMUCS, **harmless})).name == "htdemucs"
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cac": False}, "cac = False"),
        ({"t_emb": "cape"}, "t_emb = 'cape'"),
        ({"multi_freqs": [0.5]}, "multi_freqs"),
        ({"t_sparse_self_attn": True}, "t_sparse_self_attn"),
        ({"samplerate": 48000}, "samplerate = 48000"),
        ({"dconv_mode": 2}, "dconv_mode = 2"),
        ({"channels": "48"}, "channels = '48'"),
        ({"channels": -48}, "channels = -48"),
        ({"channels": 64}, "channels = 64"),
        ({"bottom_channels": 256}, "bottom_channels = 256"),
        ({"t_layers": 7}, "transformer_layers = 7"),
        ({"dconv_mode": 1}, "decoder_branch = False"),
        ({"t_hidden_scale": 2.5}, "t_hidden_scale = 2.5"),
        ({"freq_emb": 0}, "freq_emb = 0"),
    ],
)
def test_networks_without_a_graph(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        architecture_of(checkpoint(HT, sources=STEMS, **{**RELEASED_HTDEMUCS, **changed}))
    assert "released networks" in caught.value.remedy


@pytest.mark.parametrize("changed", [{"hybrid": False}, {"depth": 5}, {"dconv_lstm": 6}])
def test_hdemucs_without_a_graph(changed: dict[str, Any]) -> None:
    with pytest.raises(ModelFileError, match=next(iter(changed))):
        architecture_of(checkpoint(HD, sources=STEMS, **changed))


@pytest.mark.parametrize("klass", ["demucs.model.Demucs", "demucs.tasnet.ConvTasNet", "os.system"])
def test_other_classes(klass: str) -> None:
    with pytest.raises(ModelFileError, match="no network known"):
        architecture_of(checkpoint(klass, sources=STEMS))


@pytest.mark.parametrize("sources", [None, [], "drums", ["a", "a"], ["a", 3], [""], ["x" * 100]])
def test_stems_without_names(sources: Any) -> None:
    with pytest.raises(ModelFileError, match="stems"):
        config_of(checkpoint(HD, sources=sources))


def test_two_positional_arguments() -> None:
    with pytest.raises(ModelFileError, match="position"):
        config_of(checkpoint(HD, STEMS, 2))


def test_stems_may_have_other_names() -> None:
    given = checkpoint(HD, sources=["a", "b", "c", "d"])
    assert architecture_of(given).name == "hdemucs"
    assert config_of(given) == HDemucsConfig(sources=("a", "b", "c", "d"))
    with pytest.raises(ModelFileError, match="2 stems"):
        architecture_of(checkpoint(HT, sources=["a", "b"], **RELEASED_HTDEMUCS))


def test_config_of_a_small_network() -> None:
    given = checkpoint(HT, sources=STEMS, channels=8, t_heads=2, t_layers=3, dconv_mode=3)
    expected = HTDemucsConfig(channels=8, heads=2, transformer_layers=3, bottom_channels=0)
    assert config_of(given) == expected


def test_the_user_may_say_which_it_is() -> None:
    plain = Checkpoint(tensors={}, kind="torch", like="demucs_v2_10s")
    assert architecture_of(plain).name == "demucs_v2_10s"
    early = dataclasses.replace(checkpoint(HD, sources=STEMS, hybrid_old=True), like="hdemucs_early")
    assert architecture_of(early).name == "hdemucs_early"
    wrong = dataclasses.replace(checkpoint(HD, sources=STEMS), like="hdemucs_early")
    with pytest.raises(ModelFileError, match="not hdemucs_early") as caught:
        architecture_of(wrong)
    assert "--like" in caught.value.remedy


def test_settings_of_version_3_in_the_time_domain() -> None:
    assert config_of(checkpoint(D3, STEMS)) == TimeDemucsConfig()
    given = checkpoint(D3, sources=STEMS, normalize=False, resample=False, channels=48, dconv_mode=3)
    assert config_of(given) == TimeDemucsConfig(
        channels=48, normalise=False, resample=False, decoder_branch=True
    )
    with pytest.raises(ModelFileError, match="lstm_layers"):
        config_of(checkpoint(D3, STEMS, lstm_layers=2))
