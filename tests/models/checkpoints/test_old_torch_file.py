"""Torch files from before version 1.6: what torch reads is read alike; what is damaged is an error."""

import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import read_checkpoint
from stemwright.models.checkpoints.old_torch_file import read_old_torch
from tests.support.demucs_files import built_with, small_hdemucs


def written(content: Any, path: Path) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def small_state() -> dict[str, torch.Tensor]:
    base = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    return {
        "plain": base,
        "transposed": base.T.clone(),
        "part": torch.ones(5, 7)[1:3, 2:],
        "half": base.half(),
        "wide": base.bfloat16(),
        "scalar": torch.tensor(2.5),
    }


def test_reads_what_torch_reads(tmp_path: Path) -> None:
    path = written({"model": small_state(), "epoch": 7}, tmp_path / "a.pth")
    expected = torch.load(path, weights_only=True)
    checkpoint = read_checkpoint(path)
    assert checkpoint.facts == {"epoch": 7}
    assert set(checkpoint.tensors) == set(expected["model"])
    for name, tensor in expected["model"].items():
        np.testing.assert_array_equal(checkpoint.tensors[name], tensor.float().numpy())


def test_packages_of_demucs_in_the_old_form(tmp_path: Path) -> None:
    network = small_hdemucs()
    args, kwargs = built_with(network)
    package = {"klass": type(network), "args": args, "kwargs": kwargs, "state": network.state_dict()}
    checkpoint = read_checkpoint(written(package, tmp_path / "a.th"))
    assert checkpoint.klass == "demucs.hdemucs.HDemucs"
    for name, tensor in network.state_dict().items():
        np.testing.assert_array_equal(checkpoint.tensors[name], tensor.numpy())


def test_tuples_of_v1_are_refused_by_name(tmp_path: Path) -> None:
    path = written((small_hdemucs().__class__, (), {}, small_state()), tmp_path / "v1.th")
    with pytest.raises(ModelFileError, match="demucs v1") as error:
        read_checkpoint(path)
    assert "demucs-e07c671f" in error.value.remedy


def test_a_bare_pickle_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ModelFileError, match="bare pickle"):
        read_checkpoint(path)


class Hostile:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("true",)


def test_names_that_would_run_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.th"
    written({"a": torch.zeros(2), "b": Hostile()}, path)
    with pytest.raises(ModelFileError, match="system, which no known checkpoint needs"):
        read_checkpoint(path)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 30))
def test_damage_is_an_error_or_harmless(tmp_path: Path, seed: int) -> None:
    whole = written(small_state(), tmp_path / "whole.th").read_bytes()
    chance = random.Random(seed)
    data = bytearray(whole)
    if chance.random() < 0.5:
        del data[chance.randrange(1, len(data)) :]
    else:
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
    path = tmp_path / "damaged.th"
    path.write_bytes(data)
    try:
        checkpoint = read_old_torch(path)
    except ModelFileError:
        return
    assert all(tensor.dtype.kind == "f" for tensor in checkpoint.tensors.values())
