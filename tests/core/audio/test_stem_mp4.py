"""The stem container: streams in order, names, exact length, and the box that players look for."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from stemwright.core.audio.mp4 import children
from stemwright.core.audio.source import ArraySource
from stemwright.core.audio.stem_mp4 import NamedSource, check_stem_mp4, open_stem_writer, write_stem_mp4
from stemwright.core.audio.tags import Tags, read_tags
from stemwright.core.errors import OutputError
from tests.core.audio.signals import RATE, png, read, tone

NAMES = ("drums", "bass", "other", "vocals")
TAGS = Tags(fields={"title": "Song", "artist": "Band", "isrc": "DE1"}, cover=png())


def stems(frames: int, channels: int = 2) -> list[np.ndarray]:
    return [tone(frames, channels, seed=number) * (0.5 - 0.1 * number) for number in range(4)]


def written(path: Path, parts: list[np.ndarray]) -> Path:
    mixture = ArraySource(np.sum(parts, axis=0), RATE)
    named = [
        NamedSource(name=name, source=ArraySource(part, RATE))
        for name, part in zip(NAMES, parts, strict=True)
    ]
    return write_stem_mp4(path, mixture, named, tags=TAGS)


def movie(path: Path) -> dict[bytes, bytes]:
    return dict(children(dict(children(path.read_bytes()))[b"moov"]))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [1, 1000, RATE + 17, 100_003])
def test_streams_read_back_in_order_with_their_length(tmp_path: Path, frames: int, channels: int) -> None:
    parts = stems(frames, channels)
    path = written(tmp_path / "x.stem.mp4", parts)
    for number, part in enumerate([np.sum(parts, axis=0), *parts]):
        got = read(path, stream=number)
        assert got.shape == (channels, frames)
        if frames > 10_000:
            error = (got - part)[:, 2000:-2000]
            assert 10 * np.log10((part**2).mean() / (error**2).mean()) > 20


def test_names_and_disposition(tmp_path: Path) -> None:
    path = written(tmp_path / "x.stem.mp4", stems(5000))
    with av.open(str(path)) as container:
        streams = container.streams.audio
        assert [stream.codec_context.name for stream in streams] == ["aac"] * 5
        assert [stream.metadata["name"] for stream in streams] == ["mixture", *NAMES]
        assert [stream.metadata["handler_name"] for stream in streams] == ["mixture", *NAMES]
        assert [int(stream.disposition) for stream in streams] == [1, 0, 0, 0, 0]
        assert len(container.streams.video) == 1


def test_the_stem_box(tmp_path: Path) -> None:
    path = written(tmp_path / "x.stem.mp4", stems(5000))
    note = json.loads(dict(children(movie(path)[b"udta"]))[b"stem"])
    assert note["version"] == 1
    assert [stem["name"] for stem in note["stems"]] == list(NAMES)
    assert all(len(stem["color"]) == 7 for stem in note["stems"])
    assert set(note["mastering_dsp"]) == {"compressor", "limiter"}
    assert read_tags(path) == TAGS


def test_equal_input_gives_equal_files(tmp_path: Path) -> None:
    first = written(tmp_path / "x.stem.mp4", stems(20_000)).read_bytes()
    assert written(tmp_path / "x.stem.mp4", stems(20_000)).read_bytes() == first


def test_blocks_as_they_come(tmp_path: Path) -> None:
    parts = stems(30_000)
    whole = written(tmp_path / "a.stem.mp4", parts).read_bytes()
    stacked = np.concatenate([np.sum(parts, axis=0), *parts])
    with open_stem_writer(tmp_path / "b.stem.mp4", NAMES, RATE, 2, tags=TAGS) as writer:
        for start in range(0, 30_000, 777):
            writer.write(stacked[:, start : start + 777])
        assert writer.commit().read_bytes() == whole
    with open_stem_writer(tmp_path / "c.stem.mp4", NAMES, RATE, 2) as writer:
        writer.write(stacked)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.stem.mp4", "b.stem.mp4"]


def test_what_it_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="4 stems, not 2"):
        check_stem_mp4(("vocals", "no_vocals"), RATE, 2)
    with pytest.raises(OutputError, match="6 channels"):
        check_stem_mp4(NAMES, RATE, 6)
    with pytest.raises(OutputError, match="192000 Hz"):
        open_stem_writer(tmp_path / "x", NAMES, 192_000, 2)
    parts = stems(1000)
    mixture = ArraySource(parts[0], RATE)
    for wrong, match in (
        (ArraySource(parts[0][:, :-1], RATE), "length"),
        (ArraySource(parts[0], 48_000), "sample rate"),
        (ArraySource(parts[0][:1], RATE), "channel count"),
    ):
        named = [NamedSource(name=name, source=wrong) for name in NAMES]
        with pytest.raises(OutputError, match=match):
            write_stem_mp4(tmp_path / "x.stem.mp4", mixture, named)
    assert list(tmp_path.iterdir()) == []
