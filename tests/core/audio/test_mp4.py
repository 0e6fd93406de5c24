"""Boxes of the movie header."""

import io
from pathlib import Path

import numpy as np
import pytest

from stemwright.core.audio.encode import OutputFormat, open_writer
from stemwright.core.audio.mp4 import add_items, add_user_data, box, changed, children, edit_movie, free_form
from stemwright.core.audio.source import open_source
from tests.core.audio.signals import RATE, muxed, read, tone


def test_boxes() -> None:
    data = box(b"abcd", b"12") + box(b"efgh", b"")
    assert data == b"\0\0\0\x0aabcd12\0\0\0\x08efgh"
    assert list(children(data)) == [(b"abcd", b"12"), (b"efgh", b"")]
    for damaged in (b"\0\0\0\x07abcd", b"\0\0\0\x20abcd1234"):
        with pytest.raises(ValueError, match="damaged"):
            list(children(damaged))


def test_change_and_addition() -> None:
    data = box(b"aaaa", b"1") + box(b"bbbb", b"2")
    assert changed(data, b"bbbb", lambda body: body + b"3") == box(b"aaaa", b"1") + box(b"bbbb", b"23")
    assert changed(data, b"cccc", lambda body: body + b"4") == data + box(b"cccc", b"4")


def test_tags_without_any_before() -> None:
    movie = add_user_data(add_items(b"", [free_form("A", "b")]), b"stem", b"{}")
    user = dict(children(dict(children(movie))[b"udta"]))
    metadata = dict(children(user[b"meta"][4:]))
    assert list(metadata) == [b"hdlr", b"ilst"]
    assert b"com.apple.iTunes" in metadata[b"ilst"]
    assert user[b"stem"] == b"{}"


def test_only_a_movie_header_at_the_end_is_changed() -> None:
    fast = muxed(tone(5000), "mp4", "aac", options={"movflags": "empty_moov+frag_keyframe"})
    with pytest.raises(ValueError, match="not the last box"):
        edit_movie(io.BytesIO(fast), lambda movie: movie)


@pytest.mark.parametrize("start_s", [0.0, 0.01, 0.5, 3.25])
def test_start_time_is_kept_to_the_sample(tmp_path: Path, start_s: float) -> None:
    samples = tone(30_000)
    with open_writer(tmp_path / "x.m4a", OutputFormat(container="m4a"), RATE, 2, start_s=start_s) as writer:
        writer.write(samples)
        writer.commit()
    got = read(tmp_path / "x.m4a")
    assert got.shape == samples.shape
    lag = int(np.argmax(np.correlate(got[0, 5000:7000], samples[0, 5100:6900], "valid"))) - 100
    assert lag == 0
    with open_source(tmp_path / "x.m4a") as source:
        assert source.info.start_s == pytest.approx(start_s, abs=1 / RATE)
