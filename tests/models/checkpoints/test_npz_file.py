"""Archives of arrays as numpy writes them, and what is refused."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import npz_file, read_checkpoint

ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    "Conv1/weights/Variable:0": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "b": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "c": np.arange(3, dtype=np.float16),
}


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_what_numpy_writes(tmp_path: Path, write: object) -> None:
    path = tmp_path / "a.npz"
    write(path, **ARRAYS)  # type: ignore[operator]
    found = read_checkpoint(path)
    assert (found.kind, found.file_name, found.klass) == ("npz", "a.npz", "")
    assert list(found.tensors) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        np.testing.assert_array_equal(found.tensors[name], expected)
        assert found.tensors[name].dtype == expected.dtype


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.asarray([{}], object))
    with pytest.raises(ModelFileError, match="no array of floats"):
        read_checkpoint(tmp_path / "a.npz")


def test_only_floats(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.arange(3))
    with pytest.raises(ModelFileError, match="no array of floats"):
        read_checkpoint(tmp_path / "a.npz")


def test_a_size_that_is_not_there(tmp_path: Path) -> None:
    part = io.BytesIO()
    np.lib.format.write_array_header_1_0(part, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", part.getvalue() + bytes(16))
    with pytest.raises(ModelFileError, match="16 bytes"):
        read_checkpoint(tmp_path / "a.npz")


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(10_000, np.float32))
    monkeypatch.setattr(npz_file, "MAX_BYTES", 5000)
    with pytest.raises(ModelFileError, match="too large"):
        read_checkpoint(tmp_path / "a.npz")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), compressed=st.booleans())
def test_mutated_files_only_ever_raise_our_error(
    tmp_path: Path, place: float, value: int, compressed: bool
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        part = io.BytesIO()
        np.save(part, ARRAYS["b"])
        archive.writestr("b.npy", part.getvalue())
    data = bytearray(buffer.getvalue())
    data[int(place * len(data))] = value
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    try:
        read_checkpoint(path)
    except ModelFileError as error:
        assert error.remedy
