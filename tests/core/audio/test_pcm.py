import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemwright.core.audio.pcm import UNKNOWN_SIZE, Encoding, PcmFormat, read_wav_head, wav_header
from stemwright.core.errors import InputError

SUBTYPES: dict[Encoding, str] = {"s16le": "PCM_16", "s24le": "PCM_24", "s32le": "PCM_32", "f32le": "FLOAT"}


@pytest.mark.parametrize("encoding", SUBTYPES)
def test_reads_what_soundfile_writes(tmp_path: Path, encoding: Encoding) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (501, 3))
    path = tmp_path / "sound.wav"
    soundfile.write(path, samples, 16_000, subtype=SUBTYPES[encoding])
    with path.open("rb") as stream:
        head = read_wav_head(stream.read)
        assert head.fmt == PcmFormat(encoding=encoding, sample_rate=16_000, channels=3)
        assert head.data_bytes == 501 * head.fmt.frame_bytes
        found = head.fmt.decode(stream.read(head.data_bytes))
    expected, _ = soundfile.read(path, dtype="float32", always_2d=True)
    np.testing.assert_array_equal(found, expected.T)


@pytest.mark.parametrize("encoding", SUBTYPES)
def test_soundfile_reads_what_is_written(encoding: Encoding) -> None:
    fmt = PcmFormat(encoding=encoding, sample_rate=8000, channels=2)
    samples = np.random.default_rng(0).uniform(-1, 1, (2, 99)).astype(np.float32)
    data = fmt.encode(samples)
    head = wav_header(fmt)
    sized = (
        head[:4] + struct.pack("<I", len(head) - 8 + len(data)) + head[8:-4] + struct.pack("<I", len(data))
    )
    found, rate = soundfile.read(io.BytesIO(sized + data), dtype="float32")
    assert rate == 8000
    np.testing.assert_allclose(found.T, samples, atol=2.0**-16)
    np.testing.assert_array_equal(fmt.decode(data), found.T)


def test_integers_are_clipped_at_full_scale() -> None:
    samples = np.array([[-2.0, -1.0, 1.0, 2.0]], np.float32)
    for encoding, low, high in (("s16le", -(2**15), 2**15 - 1), ("s32le", -(2**31), 2**31 - 1)):
        fmt = PcmFormat(encoding=encoding, sample_rate=8000, channels=1)  # type: ignore[arg-type]
        kind = "<i2" if encoding == "s16le" else "<i4"
        assert np.frombuffer(fmt.encode(samples), kind).tolist() == [low, low, high, high]
    fmt = PcmFormat(encoding="f32le", sample_rate=8000, channels=1)
    np.testing.assert_array_equal(fmt.decode(fmt.encode(samples)), samples)


def test_a_pipes_unknown_length_is_read_as_such() -> None:
    fmt = PcmFormat(encoding="s16le", sample_rate=8000, channels=1)
    assert read_wav_head(io.BytesIO(wav_header(fmt)).read).data_bytes is None
    zero = wav_header(fmt)[:-4] + bytes(4)
    assert read_wav_head(io.BytesIO(zero).read).data_bytes is None
    assert UNKNOWN_SIZE == 2**32 - 1


def test_other_chunks_are_passed_over() -> None:
    fmt = PcmFormat(encoding="f32le", sample_rate=44_100, channels=2)
    head = wav_header(fmt)
    extra = struct.pack("<4sI", b"LIST", 5) + b"tags\0" + b"\0"
    assert read_wav_head(io.BytesIO(head[:12] + extra + head[12:]).read).fmt == fmt


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no WAV"),
        (b"fLaC" + bytes(40), "no WAV"),
        (wav_header(PcmFormat(encoding="s16le", sample_rate=8000, channels=1))[:30], "truncated"),
        (wav_header(PcmFormat(encoding="s16le", sample_rate=8000, channels=1))[:36], "ends before"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "before their format"),
        (b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\x7f", "something else"),
        (b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8), "8 bits"),
        (b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 0, 8000, 0, 0, 16), "0 channels"),
        (b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 3, 16), "3 bytes"),
    ],
)
def test_what_is_no_usable_wav_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_wav_head(io.BytesIO(data).read)
