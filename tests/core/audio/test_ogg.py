"""Ogg pages: checksums, ends and comments."""

import io

import pytest
import soundfile

from stemwright.core.audio.ogg import Page, checksum, last_page, read_page, rewrite_comments, vorbis_end
from tests.core.audio.signals import RATE, encoded, muxed, tone


def vorbis(frames: int) -> bytes:
    return encoded(tone(frames), "OGG", "VORBIS")


def pages(data: bytes) -> list[Page]:
    file = io.BytesIO(data)
    found = []
    while (page := read_page(file)) is not None:
        found.append(page)
    return found


def bitwise(data: bytes) -> int:
    """The checksum by RFC 3533's definition, bit by bit."""
    register = 0
    for byte in data:
        register ^= byte << 24
        for _ in range(8):
            register = ((register << 1) ^ (0x04C11DB7 if register >> 31 else 0)) & 0xFFFFFFFF
    return register


@pytest.mark.parametrize("data", [b"", b"\0", b"OggS", bytes(range(256)) * 3])
def test_checksum(data: bytes) -> None:
    assert checksum(data) == bitwise(data)


def test_pages_encode_to_what_they_were_read_from() -> None:
    data = vorbis(RATE)
    assert b"".join(page.encoded() for page in pages(data)) == data


def test_last_page() -> None:
    data = vorbis(RATE)
    page = last_page(io.BytesIO(data))
    assert page is not None
    assert (page.last, page.granule) == (True, RATE)
    assert last_page(io.BytesIO(data + b"junk")) == page
    assert last_page(io.BytesIO(data[:-1])) is None
    assert last_page(io.BytesIO(b"nothing")) is None


def test_end_of_single_streams_only() -> None:
    assert vorbis_end(io.BytesIO(vorbis(5001))) == 5001
    assert vorbis_end(io.BytesIO(vorbis(5001) + vorbis(6001))) is None
    opus = muxed(tone(48_000, rate=48_000), "ogg", "libopus", "flt", 48_000)
    assert vorbis_end(io.BytesIO(opus)) is None
    assert vorbis_end(io.BytesIO(b"")) is None


@pytest.mark.parametrize("size", [0, 10, 253, 254, 255, 60_000, 70_000, 300_000])
@pytest.mark.parametrize("frames", [1, 2000, RATE])
def test_comments_of_any_size_leave_the_audio_as_it_is(size: int, frames: int) -> None:
    data, target = vorbis(frames), io.BytesIO()
    rewrite_comments(io.BytesIO(data), target, {"TITLE": "x" * size, "ARTIST": "ä"}, "encoder")
    target.seek(0)
    before, _ = soundfile.read(io.BytesIO(data))
    after, _ = soundfile.read(target)
    assert after.shape == (frames, 2)
    assert (after == before).all()
    target.seek(0)
    with soundfile.SoundFile(target) as sound:
        assert sound.artist == "ä"
        assert len(sound.title) == size
    found = pages(target.getvalue())
    assert [page.number for page in found] == list(range(len(found)))
    assert {page.serial for page in found} == {1}
    assert b"".join(page.encoded() for page in found) == target.getvalue()


def test_what_is_no_vorbis_is_refused() -> None:
    opus = muxed(tone(48_000, rate=48_000), "ogg", "libopus", "flt", 48_000)
    for data in (b"", opus, vorbis(1000)[:60]):
        with pytest.raises(ValueError, match=r"not|complete"):
            rewrite_comments(io.BytesIO(data), io.BytesIO(), {}, "encoder")
    whole = vorbis(RATE)
    with pytest.raises(ValueError, match="not complete"):
        rewrite_comments(io.BytesIO(whole[:-10]), io.BytesIO(), {}, "encoder")
