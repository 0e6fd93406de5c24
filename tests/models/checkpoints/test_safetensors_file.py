"""Safetensors files: what demucs 4.1.0 reads is read alike; what is damaged is an error."""

import json
import random
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from demucs.hf import load_safetensors_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import content_digest, read_checkpoint
from stemwright.models.registry.families import family_of
from tests.support.demucs_files import small_hdemucs, small_htdemucs, write_safetensors, write_th


def test_reads_what_demucs_reads(tmp_path: Path) -> None:
    path = write_safetensors(small_htdemucs(), tmp_path / "a.safetensors")
    reference = load_safetensors_model(path)
    checkpoint = read_checkpoint(path)
    assert checkpoint.kind == "safetensors"
    assert checkpoint.klass == "demucs.htdemucs.HTDemucs"
    assert checkpoint.kwargs["segment"] == Fraction(39, 5)
    state = reference.state_dict()
    assert checkpoint.tensors.keys() == state.keys()
    for name, value in checkpoint.tensors.items():
        np.testing.assert_array_equal(value.astype(np.float32), state[name].numpy())


def test_both_forms_have_one_digest(tmp_path: Path) -> None:
    network = small_hdemucs()
    one = read_checkpoint(write_safetensors(network, tmp_path / "a.safetensors"))
    other = read_checkpoint(write_th(network, tmp_path / "a.th"))
    whole = read_checkpoint(write_th(network, tmp_path / "b.th", half=False))
    assert one.kwargs == other.kwargs
    assert content_digest(one.tensors) == content_digest(other.tensors) == content_digest(whole.tensors)


GOOD_METADATA = {"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": "{}"}


def written(folder: Path, metadata: dict[str, str] | None, tensor: torch.Tensor | None = None) -> Path:
    path = folder / "a.safetensors"
    save_file({"a": torch.ones(2) if tensor is None else tensor}, path, metadata)
    return path


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    tensor = torch.tensor([1.5, -3.0], dtype=torch.bfloat16)
    checkpoint = read_checkpoint(written(tmp_path, GOOD_METADATA, tensor))
    np.testing.assert_array_equal(checkpoint.tensors["a"], [1.5, -3.0])


@pytest.mark.parametrize(
    ("metadata", "tensor", "message"),
    [
        ({**GOOD_METADATA, "structure": json.dumps({"_dict": [["__quantized", True]]})}, None, "DiffQ"),
        ({**GOOD_METADATA, "kwargs": "{"}, None, "not JSON"),
        ({**GOOD_METADATA, "kwargs": "[" * 100_000}, None, "not JSON"),
        ({**GOOD_METADATA, "kwargs": "[1]"}, None, "no dictionary"),
        ({**GOOD_METADATA, "kwargs": '{"a":' + "[" * 40 + "]" * 40 + "}"}, None, "without end"),
        (
            {**GOOD_METADATA, "kwargs": '{"a": {"_type": "fraction", "numerator": 1, "denominator": 0}}'},
            None,
            "fraction",
        ),
        (GOOD_METADATA, torch.ones(2, dtype=torch.int64), "floats"),
    ],
)
def test_content_that_is_no_checkpoint(
    tmp_path: Path, metadata: dict[str, str] | None, tensor: torch.Tensor | None, message: str
) -> None:
    with pytest.raises(ModelFileError, match=message):
        read_checkpoint(written(tmp_path, metadata, tensor))


@pytest.mark.parametrize("metadata", [None, {"klass": "x"}])
def test_plain_state_dicts_keep_their_metadata_as_facts(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    checkpoint = read_checkpoint(written(tmp_path, metadata, None))
    assert (checkpoint.klass, dict(checkpoint.facts)) == ("", metadata or {})
    assert set(checkpoint.tensors) == {"a"}
    with pytest.raises(ModelFileError, match="does not say which network") as error:
        family_of(checkpoint)
    assert "--like" in error.value.remedy


def raw(header: Any, body: bytes, *, length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


@pytest.mark.parametrize(
    "data",
    [
        raw({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 800]}}, b"\0" * 8),
        raw({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"\0" * 8),
        raw({"a": {"dtype": "F32", "shape": [1 << 62, 8], "data_offsets": [0, 8]}}, b"\0" * 8),
        raw({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 16),
        raw(
            {
                "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
            },
            b"\0" * 12,
        ),
        raw({"a": 3}, b""),
        raw({}, b"", length=1 << 62),
        raw({"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8),
    ],
)
def test_bad_offsets_and_headers(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelFileError):
        read_checkpoint(path)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = small_htdemucs(t_layers=1)
    return write_safetensors(network, tmp_path_factory.mktemp("good") / "a.safetensors")


def test_every_truncation_is_an_error(tmp_path: Path, good: Path) -> None:
    path = tmp_path / "a.safetensors"
    data = good.read_bytes()
    for length in [*range(64), *random.Random(0).sample(range(len(data)), 150), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ModelFileError):
            read_checkpoint(path)


@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 4))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_headers_only_ever_raise_our_error(tmp_path: Path, good: Path, seed: int, count: int) -> None:
    source = random.Random(seed)
    data = bytearray(good.read_bytes())
    header = 8 + struct.unpack("<Q", data[:8])[0]
    for _ in range(count):
        data[source.randrange(header)] = source.randrange(256)
    path = tmp_path / "a.safetensors"
    path.write_bytes(bytes(data))
    try:
        read_checkpoint(path)
    except ModelFileError:
        pass
