"""Checkpoints of ResUNet30 and what becomes of them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import Checkpoint, read_checkpoint
from stemwright.models.checkpoints.writing import write_checkpoint
from stemwright.models.registry.families import family_of
from stemwright.models.universal.building import UNIVERSAL, query_rules
from stemwright.models.universal.checkpoints import config_of, tensors_of
from stemwright.models.universal.configs import KLASS, ResUNetConfig
from stemwright.models.universal.folding import serving_tensors
from tests.models.universal.released import write_released
from tests.models.universal.transcription import random_state

FIRST = "film.encoder_block1->conv_block1->beta1.weight"
SMALL = (2, 2, 2, 2, 2, 2)


def test_the_released_form(tmp_path: Path) -> None:
    state = random_state(527, SMALL, 0)
    checkpoint = read_checkpoint(write_released(tmp_path / "a.ckpt", state))
    family = family_of(checkpoint)
    assert (family, family.architecture_of(checkpoint)) == (UNIVERSAL, "resunet30_527")
    tensors = tensors_of(checkpoint)
    for name, value in state.items():
        np.testing.assert_array_equal(tensors[name], value.numpy())
    assert not any(name.startswith(("query_net", "anchor", "ss_model")) for name in tensors)
    config = ResUNetConfig(channels=SMALL)
    expected = serving_tensors({name: value.numpy() for name, value in state.items()}, config)
    found = serving_tensors(tensors, config)
    assert expected.keys() == found.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in found)


class Hostile:
    def __reduce__(self) -> Any:
        return os.system, ("touch hostile",)


def test_what_calls_other_things_is_still_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_released(tmp_path / "a.ckpt", random_state(4, SMALL, 0), beside=Hostile())
    with pytest.raises(ModelFileError, match="system, which no known checkpoint needs"):
        read_checkpoint(path)
    assert not (tmp_path / "hostile").exists()


def test_an_object_in_the_place_of_a_tensor_is_refused(tmp_path: Path) -> None:
    state: dict[str, Any] = random_state(4, SMALL, 0)
    state["base.pre_conv.bias"] = Path("/somewhere")
    with pytest.raises(ModelFileError, match="no tensor of floats"):
        read_checkpoint(write_released(tmp_path / "a.ckpt", state))


def test_our_own_checkpoints_say_what_they_are(tmp_path: Path) -> None:
    state = {name: value.numpy() for name, value in random_state(1024, SMALL, 0).items()}
    config = ResUNetConfig(condition_size=1024, tagger="my-tagger")
    write_checkpoint(tmp_path / "a.safetensors", state, klass=KLASS, kwargs=config.arguments())
    checkpoint = read_checkpoint(tmp_path / "a.safetensors")
    assert family_of(checkpoint) is UNIVERSAL
    assert config_of(checkpoint) == config
    rules = query_rules(config)
    assert (rules.condition, rules.size, rules.tagger) == ("embedding", 1024, "my-tagger")


def test_a_plain_state_dict_is_known_by_its_odd_names(tmp_path: Path) -> None:
    torch.save(random_state(521, SMALL, 0), tmp_path / "a.pt")
    checkpoint = read_checkpoint(tmp_path / "a.pt")
    assert family_of(checkpoint).architecture_of(checkpoint) == "resunet30_521"
    rules = query_rules(config_of(checkpoint))
    assert (rules.condition, rules.tagger, rules.threshold) == ("class_probabilities", "yamnet", 0.2)


def of(size: int, **kwargs: Any) -> Checkpoint:
    return Checkpoint(
        tensors={FIRST: np.zeros((32, size), np.float32)}, klass=KLASS, kwargs=kwargs, kind="safetensors"
    )


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        (of(512), "those of AudioSep are a text encoder's"),
        (of(100), "conditions of 100 values"),
        (of(527, channels=[1, 2, 3, 4, 5, 6]), "no graph is shipped"),
        (of(527, condition_size=521), "its tensors have 527"),
        (of(527, other=1), "a setting other"),
        (Checkpoint(tensors={}, klass=KLASS, kind="torch"), "no layer of the condition"),
    ],
)
def test_what_cannot_be_used_is_refused(checkpoint: Checkpoint, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        UNIVERSAL.architecture_of(checkpoint)


def test_tensors_that_do_not_fit_are_named() -> None:
    config = ResUNetConfig(condition_size=4, channels=SMALL)
    state = {name: value.numpy() for name, value in random_state(4, SMALL, 0).items()}
    missing = dict(state)
    del missing["base.decoder_block3.bn1.running_mean"]
    with pytest.raises(ModelFileError, match=r"no tensor base\.decoder_block3\.bn1\.running_mean"):
        serving_tensors(missing, config)
    with pytest.raises(ModelFileError, match=r"beta1\.weight of the checkpoint is \[2, 3\]"):
        serving_tensors(state | {FIRST: np.zeros((2, 3), np.float32)}, config)
    for name in (
        "base.bn0.weight",
        "base.conv_block7a.conv_block1.conv1.weight",
        "base.decoder_block1.bn1.bias",
    ):
        with pytest.raises(ModelFileError, match=f"{name} of the checkpoint is"):
            serving_tensors(state | {name: np.zeros((7, 1), np.float32)}, config)
    negative = {"base.bn0.running_var": -np.ones(1025, np.float32)}
    with pytest.raises(ModelFileError, match="negative"):
        serving_tensors(state | negative, config)
