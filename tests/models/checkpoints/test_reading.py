"""Telling checkpoints apart by their content."""

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import content_digest, read_checkpoint, reading
from stemwright.models.checkpoints.checkpoint import FloatArray
from tests.support.demucs_files import small_htdemucs, write_safetensors, write_th


def test_names_do_not_matter(tmp_path: Path) -> None:
    assert read_checkpoint(write_th(small_htdemucs(), tmp_path / "a.safetensors")).kind == "torch"
    assert read_checkpoint(write_safetensors(small_htdemucs(), tmp_path / "a.th")).kind == "safetensors"


@pytest.mark.parametrize("data", [b"", b"text", b"RIFF\0\0\0\0WAVEfmt ", b"\x80", b"\x1f\x8b" + b"\0" * 20])
def test_other_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.th"
    path.write_bytes(data)
    with pytest.raises(ModelFileError):
        read_checkpoint(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="No such file"):
        read_checkpoint(tmp_path / "a.th")
    with pytest.raises(ModelFileError, match="directory"):
        read_checkpoint(tmp_path)


def test_huge_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 1000)
    with pytest.raises(ModelFileError, match="the limit is 1000"):
        read_checkpoint(write_th(small_htdemucs(), tmp_path / "a.th"))


def test_digest_is_over_names_and_little_endian_float32() -> None:
    tensors: dict[str, FloatArray] = {
        "b": np.asarray([1.0, 2.0], np.float16),
        "a": np.asarray([[3.0]], np.float64),
    }
    data = b"a" + struct.pack("<f", 3.0) + b"b" + struct.pack("<ff", 1.0, 2.0)
    assert content_digest(tensors) == hashlib.sha256(data).hexdigest()
    swapped: dict[str, FloatArray] = {"a": tensors["a"].astype(">f8"), "b": tensors["b"].astype(">f2")}
    assert content_digest(swapped) == content_digest(tensors)


def test_digest_tells_names_values_and_order_of_values() -> None:
    base = {"a": np.arange(4, dtype=np.float32).reshape(2, 2)}
    digests = {
        content_digest(base),
        content_digest({"b": base["a"]}),
        content_digest({"a": base["a"].T}),
        content_digest({"a": base["a"] + 1}),
    }
    assert len(digests) == 4
