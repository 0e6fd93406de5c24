"""Recordings of many formats, damaged in many ways, the same for the same number."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemwright.core.audio.encode import OutputFormat, open_writer
from stemwright.core.audio.stem_mp4 import open_stem_writer
from stemwright.core.audio.tags import Tags
from tests.service.recordings import noise, write

RATE = 44_100
Random = np.random.Generator

_EXTREMES = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
)


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A damaged file: its name tells the format, the damage and the number."""

    name: str
    data: bytes


def healthy(folder: Path) -> dict[str, bytes]:
    """Make a short file of every format that is written here; suffix to bytes."""
    samples = noise(RATE // 2, 2, level=0.4)
    cover = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (8).to_bytes(4, "big") * 2 + bytes(64)
    tags = Tags(fields={"title": "Mutant", "artist": "Nobody"}, cover=cover)
    made = {}
    for container, depth in (
        ("wav", "16"),
        ("wav", "32f"),
        ("flac", "24"),
        ("mp3", "16"),
        ("ogg", "16"),
        ("m4a", "16"),
    ):
        fmt = OutputFormat(container=container, bit_depth=depth)  # type: ignore[arg-type]
        path = folder / f"{depth}{fmt.extension}"
        with open_writer(path, fmt, RATE, 2, tags=tags) as writer:
            writer.write(samples)
            writer.commit()
        made[path.name] = path.read_bytes()
    for suffix in ("aiff", "caf", "au", "w64"):
        made[f"a.{suffix}"] = write(folder / f"a.{suffix}", samples).read_bytes()
    with open_stem_writer(folder / "a.stem.mp4", ("drums", "bass", "other", "vocals"), RATE, 2) as stems:
        stems.write(np.tile(samples, (5, 1)) * np.float32(0.5))
        stems.commit()
    made["a.stem.mp4"] = (folder / "a.stem.mp4").read_bytes()
    return made


def mutants(files: dict[str, bytes], count: int, seed: int = 0) -> Iterator[Mutant]:
    """Damage the files, each in turn, one to three times."""
    names = sorted(files)
    for number in range(count):
        random = np.random.default_rng([seed, number])
        name = names[number % len(names)]
        data, deeds = files[name], []
        for _ in range(random.integers(1, 4)):
            deed = DEEDS[random.integers(len(DEEDS))]
            data = deed(data, random, files[names[random.integers(len(names))]])
            deeds.append(deed.__name__)
        yield Mutant(name=f"{number:05d} {'+'.join(deeds)} {name}", data=data or b"\0")


def _place(data: bytes, random: Random) -> int:
    """Choose a place, as often in the first 200 bytes as in all the others."""
    most = max(1, len(data))
    return int(random.integers(min(200, most) if random.random() < 0.5 else most))


def flip(data: bytes, random: Random, _: bytes) -> bytes:
    changed = bytearray(data)
    for _number in range(int(random.integers(1, 30))):
        if changed:
            changed[_place(data, random)] ^= 1 << int(random.integers(8))
    return bytes(changed)


def extreme(data: bytes, random: Random, _: bytes) -> bytes:
    at, value = _place(data, random), _EXTREMES[random.integers(len(_EXTREMES))]
    return data[:at] + value + data[at + len(value) :]


def truncate(data: bytes, random: Random, _: bytes) -> bytes:
    return data[: _place(data, random)]


def behead(data: bytes, random: Random, _: bytes) -> bytes:
    return data[_place(data, random) :]


def insert(data: bytes, random: Random, _: bytes) -> bytes:
    at = _place(data, random)
    return data[:at] + random.bytes(int(random.integers(1, 500))) + data[at:]


def repeat(data: bytes, random: Random, _: bytes) -> bytes:
    start, length = _place(data, random), int(random.integers(1, 2000))
    return (
        data[: start + length]
        + data[start : start + length] * int(random.integers(1, 20))
        + data[start + length :]
    )


def erase(data: bytes, random: Random, _: bytes) -> bytes:
    at, length = _place(data, random), int(random.integers(1, 5000))
    return data[:at] + bytes(len(data[at : at + length])) + data[at + length :]


def splice(data: bytes, random: Random, other: bytes) -> bytes:
    return data[: _place(data, random)] + other[_place(other, random) :]


def shuffle(data: bytes, random: Random, _: bytes) -> bytes:
    size = int(random.integers(16, 2000))
    blocks = [data[start : start + size] for start in range(0, len(data), size)]
    order = random.permutation(len(blocks))
    stream = io.BytesIO()
    for index in order:
        stream.write(blocks[index])
    return stream.getvalue()


DEEDS: tuple[Callable[[bytes, Random, bytes], bytes], ...] = (
    flip, extreme, truncate, behead, insert, repeat, erase, splice, shuffle,
)  # fmt: skip
