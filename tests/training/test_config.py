from math import prod
from pathlib import Path

import pytest
import torch

from stemwright.core.errors import OptionError
from stemwright.training.cli.running import parse_setting
from stemwright.training.config import CONFIGS_DIR, config_from, read_config
from stemwright.training.tasks import task_of
from tests.support.training_runs import MODELS, small_config

# Of the papers' pages and of their authors' code; the causal variant has the same sizes.
PARAMETERS = {
    "conv_tasnet_wsj0_2mix": 5_050_545,
    "conv_tasnet_causal": 5_050_545,
    "conv_tasnet_music": 10_977_872,
    "demucs_v2_musdb": 265_679_496,
    "htdemucs_musdb": 41_984_456,
    "ibm_cnn_ikala": 19_489_049,
    "ibm_cnn_dsd100": 19_489_049,
    "uss_audioset": 26_595_781,
}
SAMPLES = {
    "conv_tasnet_wsj0_2mix": 32_000,
    "conv_tasnet_causal": 32_000,
    "conv_tasnet_music": 80_000,
    "demucs_v2_musdb": 447_146,
    "htdemucs_musdb": 343_980,
    "ibm_cnn_ikala": (107 * 8 + 1 + 4) * 256,  # 107 patches, of whole frames
    "ibm_cnn_dsd100": (107 * 8 + 1 + 4) * 256,
    "uss_audioset": 64_000,
}


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS_DIR.glob("*.toml")))
def test_each_shipped_configuration_makes_its_network(name: str) -> None:
    config = read_config(name)
    task = task_of(config)
    assert config.name.replace("-", "_") == name
    if name not in PARAMETERS:
        return
    with torch.device("meta"):
        net = task.network()
    assert sum(prod(tensor.shape) for tensor in net.parameters()) == PARAMETERS[name]
    assert task.segment_samples(config.data.segment_s) == SAMPLES[name]


@pytest.mark.parametrize(
    ("section", "wrong", "near"),
    [("loop", "stpes", "steps"), ("optimiser", "learning", None), ("model", "famly", "family")],
)
def test_a_misspelt_setting_is_named_with_the_nearest(section: str, wrong: str, near: str | None) -> None:
    given = read_config("uss_audioset").model_dump(mode="json")
    given[section][wrong] = 1
    with pytest.raises(OptionError, match=f"{section}.{wrong}") as caught:
        config_from(given)
    assert (f"did you mean {near}?" if near else "it is one of kind, lr") in caught.value.remedy


def test_a_stage_of_the_schedule_with_a_misspelt_setting_is_named() -> None:
    given = read_config("uss_audioset").model_dump(mode="json")
    given["schedule"]["stages"][1]["factr"] = 1
    with pytest.raises(OptionError, match=r"schedule.stages.1.factr") as caught:
        config_from(given)
    assert "did you mean factor?" in caught.value.remedy


@pytest.mark.parametrize(
    ("sizes", "said"),
    [({"filtres": 3}, "filters"), ({"filters": "many"}, "such as 512"), ({"filter_length": 3}, "correct it")],
)
def test_a_size_that_a_network_does_not_have_is_named(sizes: dict[str, object], said: str) -> None:
    with pytest.raises(OptionError) as caught:
        task_of(small_config("conv_tasnet", model={"sizes": sizes}))
    assert said in caught.value.remedy


def test_variants_objectives_and_stems_have_to_be_the_familys() -> None:
    with pytest.raises(OptionError, match="no variant papr"):
        task_of(small_config("conv_tasnet", model={"variant": "papr"}))
    with pytest.raises(OptionError, match="not trained by si_snr"):
        task_of(small_config("universal", objective={"kind": "si_snr"}))
    with pytest.raises(OptionError, match="hold each speaker"):
        task_of(small_config("conv_tasnet", objective={"kind": "l1"}))
    with pytest.raises(OptionError, match="2 outputs cannot have the stems"):
        task_of(small_config("conv_tasnet", model={"stems": ["a", "b", "c"]}))


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"schedule": {"kind": "stages"}}, "stages belong"),
        ({"schedule": {"kind": "plateau"}, "data": {"valid": {}}}, "needs a validation"),
        ({"schedule": {"kind": "cosine", "progress": "time"}}, "needs loop.max_seconds"),
        ({"optimiser": {"lr": -1.0}}, "optimiser.lr"),
        ({"name": "../x"}, "name"),
    ],
)
def test_settings_that_make_no_run_are_refused(sections: dict[str, object], said: str) -> None:
    with pytest.raises(OptionError) as caught:
        small_config("conv_tasnet", **sections)  # type: ignore[arg-type]
    assert said in caught.value.message


def test_a_configuration_is_found_by_path_or_name(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no configuration uss_audiose") as caught:
        read_config("uss_audiose")
    assert "uss_audioset" in caught.value.remedy
    (tmp_path / "a.toml").write_text("name = [")
    with pytest.raises(OptionError, match="cannot read"):
        read_config(tmp_path / "a.toml")


def test_settings_can_be_changed_by_their_path() -> None:
    changes = [parse_setting(text) for text in ("loop.steps=7", "name=other", "publish.experimental=true")]
    config = read_config("uss_audioset", changes)
    assert (config.loop.steps, config.name, config.publish.experimental) == (7, "other", True)
    with pytest.raises(OptionError, match="is no setting"):
        parse_setting("loop.steps")
    with pytest.raises(OptionError, match="holds no settings"):
        read_config("uss_audioset", [parse_setting("name.x=1")])


def test_every_family_has_a_small_configuration() -> None:
    assert {task_of(small_config(family)).family for family in MODELS} == set(MODELS)
