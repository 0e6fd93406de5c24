"""Torch archives: what the demucs package and torch write is read; what is hostile runs nothing."""

import collections
import gzip
import io
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import Checkpoint, read_checkpoint
from stemwright.models.checkpoints.torch_file import read_torch
from tests.support.demucs_files import (
    SMALL_HTDEMUCS,
    STEMS,
    built_with,
    small_hdemucs,
    small_htdemucs,
    write_th,
)

TRIPPED: list[str] = []


def trip(*arguments: Any) -> None:
    """What a hostile file tries to call."""
    TRIPPED.append(repr(arguments))


def archive(
    pickled: bytes, records: dict[str, bytes] | None = None, *, compression: int = zipfile.ZIP_STORED
) -> bytes:
    """A torch archive around a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as written:
        written.writestr("archive/data.pkl", pickled)
        written.writestr("archive/byteorder", "little")
        for name, data in (records or {}).items():
            written.writestr(f"archive/{name}", data)
    return buffer.getvalue()


def read_bytes(data: bytes, folder: Path) -> Checkpoint:
    path = folder / "file.th"
    path.write_bytes(data)
    return read_checkpoint(path)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("make", [small_htdemucs, small_hdemucs])
def test_reads_what_demucs_writes(tmp_path: Path, make: Callable[[], torch.nn.Module], half: bool) -> None:
    network = make()
    checkpoint = read_checkpoint(write_th(network, tmp_path / "a.th", half=half))
    assert checkpoint.kind == "torch"
    assert checkpoint.klass == f"{type(network).__module__}.{type(network).__name__}"
    args, kwargs = built_with(network)
    assert (list(checkpoint.args), checkpoint.kwargs) == (list(args), kwargs)
    state = network.state_dict()
    assert checkpoint.tensors.keys() == state.keys()
    for name, value in checkpoint.tensors.items():
        assert value.dtype == (np.float16 if half else np.float32)
        np.testing.assert_array_equal(value.astype(np.float32), state[name].numpy())


def test_class_is_only_a_name(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_th(small_htdemucs(), tmp_path / "a.th"))
    assert type(checkpoint.klass) is str
    assert checkpoint.kwargs["segment"] == SMALL_HTDEMUCS["segment"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_every_protocol_and_layout(tmp_path: Path, protocol: int) -> None:
    base = torch.arange(24, dtype=torch.float32)
    state = collections.OrderedDict(
        whole=base,
        transposed=torch.arange(6.0).reshape(2, 3).t(),
        tail=torch.arange(10.0)[4:],
        scalar=torch.tensor(3.5),
        empty=torch.empty(0, 3),
        double=torch.tensor([1.5, 2.5], dtype=torch.float64),
        bfloat=torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        parameter=torch.nn.Parameter(torch.ones(3)),
    )
    package = {
        "klass": type(small_htdemucs()),
        "args": (),
        "kwargs": {"sources": STEMS, "a": Fraction(1, 3), "n": None, "deep": [{"x": (1, 2.5, True)}]},
        "state": state,
        "training_args": {"scalar": np.float64(0.5), "raw": b"bytes\xff", "large": 1 << 70},
    }
    path = tmp_path / "a.th"
    torch.save(package, path, pickle_protocol=protocol)
    checkpoint = read_checkpoint(path)
    for name, value in state.items():
        expected = value.detach().float().numpy() if value.dtype == torch.bfloat16 else value.detach().numpy()
        np.testing.assert_array_equal(checkpoint.tensors[name], expected)
    assert checkpoint.kwargs == package["kwargs"]


class Reduces:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def as_global(module: str, name: str, argument: str = "x") -> bytes:
    return f"c{module}\n{name}\n".encode() + b"(V" + argument.encode() + b"\ntR."


def text(value: str) -> bytes:
    """The pickled form of a short text."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def storage_id(kind: bytes, key: bytes) -> bytes:
    """A pickle that is nothing but the persistent id of a storage."""
    return b"\x80\x02(" + text("storage") + kind + key + text("cpu") + b"K\x01tQ."


class Nested:
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (collections.OrderedDict, ([("a", Reduces(trip, 1))],))


HOSTILE: dict[str, bytes] = {
    "os.system": as_global("os", "system", "touch owned"),
    "posix.system": as_global("posix", "system"),
    "builtins.eval": as_global("builtins", "eval", "1+1"),
    "builtins.exec": as_global("builtins", "exec"),
    "builtins.getattr": pickle.dumps(Reduces(getattr, "", "upper"), 2),
    "subprocess.Popen": as_global("subprocess", "Popen"),
    "trip": pickle.dumps(Reduces(trip, "called"), 4),
    "nested": pickle.dumps(Nested(), 2),
    "dotted module": as_global("torch._utils.os", "system"),
    "dotted name": b"\x80\x04\x8c\x05torch\x8c\x12_utils.os.system.x\x93)R.",
    "class of demucs, called": b"cdemucs.htdemucs\nHTDemucs\n(tR.",
    "unknown class of demucs": b"cdemucs.htdemucs\nos\n.",
    "instance": b"(iposix\nsystem\n.",
    "object": b"(cposix\nsystem\no.",
    "new object": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "new object with keywords": b"\x80\x04\x8c\x01a\x8c\x01b\x93)}\x92.",
    "extension": b"\x80\x02\x82\x01.",
    "setattr by build": b"\x80\x02cfractions\nFraction\n(V1\ntR}b.",
    "build of a text": b"\x80\x02X\x01\x00\x00\x00a}b.",
    "call of a text": b"\x80\x02X\x01\x00\x00\x00a)R.",
    "call without a tuple": b"cfractions\nFraction\n]R.",
    "persistent id of bad type": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "persistent id, text form": b"Pos.system\n.",
    "persistent id without a storage type": storage_id(text("a"), text("0")),
    "storage outside": storage_id(b"ctorch\nFloatStorage\n", text("../../etc")),
    "memo bomb": b"\x80\x02Nr\xff\xff\xff\x7f0.",
    "memo never kept": b"\x80\x02h\x07.",
    "long number": b"\x80\x02\x8b\xff\xff\xff\x7f1.",
    "huge text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"a.",
    "huge byte array": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"a.",
    "huge frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.",
    "no end": b"\x80\x02N",
    "empty": b"",
    "empty stack": b"\x80\x02.",
    "no mark": b"\x80\x02t.",
    "key that hashes deep": b"\x80\x02})" + b"\x85" * 100_000 + b"Ns.",
    "not opcodes": bytes(range(256)),
    "decimal bomb": b"I" + b"9" * 100_000 + b"\n.",
    "text with bad escapes": b"S'\\q'\n.",
    "duplicate": b"\x80\x02N22.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickle_is_refused_and_runs_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    TRIPPED.clear()
    with pytest.raises(ModelFileError) as caught:
        read_bytes(archive(HOSTILE[name]), tmp_path)
    assert "\n" not in caught.value.message
    if name in ("os.system", "builtins.eval", "builtins.exec", "posix.system", "subprocess.Popen"):
        assert name in caught.value.message
    assert not TRIPPED
    assert [path.name for path in tmp_path.iterdir()] == ["file.th"]


def test_hostile_call_inside_a_good_checkpoint(tmp_path: Path) -> None:
    package = {"klass": type(small_htdemucs()), "args": (), "kwargs": {"a": Reduces(trip)}, "state": {}}
    torch.save(package, tmp_path / "a.th")
    TRIPPED.clear()
    with pytest.raises(ModelFileError, match="trip"):
        read_checkpoint(tmp_path / "a.th")
    assert not TRIPPED


def checkpoint_pickle(**changes: Any) -> bytes:
    package: dict[str, Any] = {"args": (), "kwargs": {}, "state": {}, **changes}
    inner = pickle.dumps(package, 2)
    return b"\x80\x02" + inner[2:-1] + b"X\x05\x00\x00\x00klasscdemucs.htdemucs\nHTDemucs\ns."


def test_arguments_repeated_without_end(tmp_path: Path) -> None:
    layer: list[Any] = ["x"]
    for _ in range(14):
        layer = [layer] * 20
    with pytest.raises(ModelFileError, match="without end"):
        read_bytes(archive(checkpoint_pickle(kwargs={"a": layer})), tmp_path)
    looped: list[Any] = []
    looped.append(looped)
    with pytest.raises(ModelFileError, match="without end"):
        read_bytes(archive(checkpoint_pickle(kwargs={"a": looped})), tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state": {"__quantized": True, "meta": {}}}, "DiffQ"),
        ({"state": {"a": 3}}, "no tensor"),
        ({"state": [1]}, "no dictionary"),
        ({"kwargs": 3}, "no dictionary"),
        ({"klass": "HTDemucs"}, "class"),
    ],
)
def test_content_that_is_no_checkpoint(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    pickled = checkpoint_pickle(**content)
    if "klass" in content:
        pickled = pickle.dumps({"args": (), "kwargs": {}, "state": {}, **content}, 2)
    with pytest.raises(ModelFileError, match=message):
        read_bytes(archive(pickled), tmp_path)


def test_older_versions_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="v1"):
        read_bytes(archive(pickle.dumps(("klass", (), {}, {}), 2)), tmp_path)
    torch.save({"compressed": b"packed"}, tmp_path / "demucs_quantized-07afea75.th")
    with pytest.raises(ModelFileError, match="DiffQ"):
        read_checkpoint(tmp_path / "demucs_quantized-07afea75.th")
    (tmp_path / "v1.th").write_bytes(gzip.compress(b"pickle"))
    with pytest.raises(ModelFileError, match="v1"):
        read_checkpoint(tmp_path / "v1.th")


def test_state_dicts_are_found_alone_and_under_their_usual_keys(tmp_path: Path) -> None:
    state = {"a": torch.ones(2), "bn.num_batches_tracked": torch.tensor(3)}
    others = {"model_name": "ConvTasNet", "model_args": {"n_src": 2}, "optimiser": torch.ones(1)}
    for number, content in enumerate([state, {"state_dict": state, **others}, {"model": state, "epoch": 3}]):
        path = tmp_path / f"{number}.th"
        torch.save(content, path)
        checkpoint = read_checkpoint(path)
        assert {name: value.tolist() for name, value in checkpoint.tensors.items()} == {"a": [1, 1]}
        assert (checkpoint.klass, checkpoint.file_name) == ("", path.name)
        facts: list[dict[str, Any]] = [
            {}, {"model_name": "ConvTasNet", "model_args": {"n_src": 2}}, {"epoch": 3}
        ]  # fmt: skip
        assert checkpoint.facts == facts[number]
    torch.save({"epoch": 3}, tmp_path / "none.th")
    with pytest.raises(ModelFileError, match="holds no checkpoint"):
        read_checkpoint(tmp_path / "none.th")


def tensor_pickle(
    offset: int, size: tuple[int, ...], stride: tuple[int, ...], values: int, kind: str = "FloatStorage"
) -> bytes:
    """A checkpoint whose one tensor is put together as told."""
    numbers = [pickle.dumps(part, 2)[2:-1] for part in (values, offset, size, stride)]
    storage = (
        b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text("0") + text("cpu") + numbers[0] + b"tQ"
    )
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"".join(numbers[1:]) + b"\x89NtR"
    klass = text("klass") + b"cdemucs.htdemucs\nHTDemucs\n"
    rest = text("args") + b")" + text("kwargs") + b"}" + text("state") + b"}" + text("a") + tensor + b"s"
    return b"\x80\x02}(" + klass + rest + b"u."


DATA = np.arange(6, dtype="<f4").tobytes()


def test_tensor_in_its_storage(tmp_path: Path) -> None:
    read = read_bytes(archive(tensor_pickle(1, (2, 2), (2, 1), 6), {"data/0": DATA}), tmp_path)
    np.testing.assert_array_equal(read.tensors["a"], [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("offset", "size", "stride", "values"),
    [
        (0, (7,), (1,), 6),
        (1, (6,), (1,), 6),
        (-1, (2,), (1,), 6),
        (7, (0,), (1,), 6),
        (0, (2,), (-1,), 6),
        (0, (-2,), (1,), 6),
        (0, (2, 2), (1,), 6),
        (0, (1 << 40,), (0,), 6),
        (0, (3, 3), (1, 1), 6),
        (0, (2,), (1 << 62,), 6),
        (0, (1,) * 9, (1,) * 9, 6),
        (0, (6,), (1,), 7),
        (0, (6,), (1,), -6),
        (1 << 70, (1,), (1,), 6),
        (0, (True,), (1,), 6),
    ],
)
def test_tensor_beyond_its_storage(
    tmp_path: Path, offset: int, size: tuple[int, ...], stride: tuple[int, ...], values: int
) -> None:
    with pytest.raises(ModelFileError):
        read_bytes(archive(tensor_pickle(offset, size, stride, values), {"data/0": DATA}), tmp_path)


def test_tensors_of_integers_and_missing_storages(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="floats"):
        read_bytes(archive(tensor_pickle(0, (3,), (1,), 3, "LongStorage"), {"data/0": DATA}), tmp_path)
    with pytest.raises(ModelFileError, match="no record"):
        read_bytes(archive(tensor_pickle(0, (6,), (1,), 6)), tmp_path)


def test_overlapping_tensors(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    package = {"klass": type(small_htdemucs()), "args": (), "kwargs": {}, "state": {"a": base, "b": base[1:]}}
    torch.save(package, tmp_path / "a.th")
    with pytest.raises(ModelFileError, match="overlap"):
        read_checkpoint(tmp_path / "a.th")


def test_compressed_records_are_refused_unread(tmp_path: Path) -> None:
    bomb = archive(pickle.dumps(b"\0" * 10_000_000, 4), compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    with pytest.raises(ModelFileError, match="compressed"):
        read_bytes(bomb, tmp_path)


def test_records_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        written.writestr("archive/data.pkl", checkpoint_pickle())
        written.writestr("archive/data/0", b"\0" * 50_000)
        inner = written.infolist()[-1]
        for number in range(50):
            copy = zipfile.ZipInfo(inner.filename)
            for attribute in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(copy, attribute, getattr(inner, attribute))
            copy.filename = copy.orig_filename = f"archive/data/{number + 1}"
            written.filelist.append(copy)
            written.NameToInfo[copy.filename] = copy
    with pytest.raises(ModelFileError):
        read_bytes(buffer.getvalue(), tmp_path)


def test_huge_directory_is_refused_unread(tmp_path: Path) -> None:
    data = bytearray(archive(checkpoint_pickle()))
    place = data.rfind(b"PK\x05\x06")
    data[place + 12 : place + 16] = struct.pack("<I", 500_000_000)
    with pytest.raises(ModelFileError, match="directory"):
        read_bytes(bytes(data), tmp_path)


def test_encrypted_record(tmp_path: Path) -> None:
    data = bytearray(archive(checkpoint_pickle()))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(signature) + offset] |= 1
    with pytest.raises(ModelFileError):
        read_bytes(bytes(data), tmp_path)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = small_htdemucs(t_layers=1)
    return write_th(network, tmp_path_factory.mktemp("good") / "a.th")


def test_every_truncation_is_an_error(tmp_path: Path, good: Path) -> None:
    data = good.read_bytes()
    for length in [*range(64), *random.Random(0).sample(range(len(data)), 150), len(data) - 1]:
        with pytest.raises(ModelFileError):
            read_bytes(data[:length], tmp_path)


@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_files_only_ever_raise_our_error(tmp_path: Path, good: Path, seed: int, count: int) -> None:
    source = random.Random(seed)
    data = bytearray(good.read_bytes())
    for _ in range(count):
        data[source.randrange(len(data))] = source.randrange(256)
    try:
        read_bytes(bytes(data), tmp_path)
    except ModelFileError:
        pass


@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_pickles_only_ever_raise_our_error(tmp_path: Path, good: Path, seed: int, count: int) -> None:
    """The archive is whole here, so that the mutation reaches the pickle's reader."""
    with zipfile.ZipFile(good) as opened:
        records = {name.partition("/")[2]: opened.read(name) for name in opened.namelist()}
    pickled = bytearray(records.pop("data.pkl"))
    records.pop("byteorder", None)
    source = random.Random(seed)
    for _ in range(count):
        pickled[source.randrange(len(pickled))] = source.randrange(256)
    path = tmp_path / "file.th"
    path.write_bytes(archive(bytes(pickled), records))
    try:
        read_torch(path)
    except ModelFileError:
        pass
