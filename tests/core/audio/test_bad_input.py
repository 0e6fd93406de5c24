"""Bad and awkward inputs: a clear error or a defined result, never a crash, a hang, or half the audio."""

import io
import logging
import os
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from stemwright.core.audio.source import ArraySource, open_source
from stemwright.core.errors import InputError
from tests.core.audio.signals import RATE, encoded, muxed, png, read, silent_video, tone, wav


def refused(path: Path, data: bytes, match: str) -> InputError:
    """Write a file, and see that it is refused with a cause and a remedy of one line each."""
    path.write_bytes(data)
    with pytest.raises(InputError, match=match) as caught:
        read(path)
    error = caught.value
    assert path.name in error.message
    assert error.remedy
    assert "\n" not in error.message + error.remedy
    return error


def ramp(frames: int) -> bytes:
    return np.arange(frames, dtype="<i2").tobytes()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("random.mp3", np.random.default_rng(0).bytes(100_000)),
        ("text.wav", b"The quick brown fox\n" * 500),
        ("picture.mp3", png()),
        ("archive.flac", b"PK\x03\x04" + bytes(500)),
        ("one-byte.wav", b"R"),
        ("playlist.wav", b"#EXTM3U\n#EXTINF:10,\n/etc/passwd\n#EXT-X-ENDLIST\n"),
        ("list.mp3", b"ffconcat version 1.0\nfile /etc/passwd\n"),
        ("tag-only.mp3", b"ID3\4\0\0\0\0\x10\0" + bytes(2048)),
    ],
)
def test_what_is_no_audio(tmp_path: Path, name: str, data: bytes) -> None:
    refused(tmp_path / name, data, "not audio|damaged|cut off|no audio")


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes(tmp_path: Path, seed: int) -> None:
    refused(tmp_path / f"{seed}.mp3", np.random.default_rng(seed).bytes(60_000), "not audio|damaged|cut off")


def test_missing_folder_and_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read nothing\.wav: No such file"):
        open_source(tmp_path / "nothing.wav")
    with pytest.raises(InputError, match="is a folder"):
        open_source(tmp_path)
    refused(tmp_path / "empty.wav", b"", r"empty \(0 bytes\)")
    with pytest.raises(InputError, match="cannot read"):
        open_source(tmp_path / "nul\0.wav")
    with pytest.raises(InputError, match="cannot read"):
        open_source(tmp_path / ("x" * 300 + ".wav"))


@pytest.mark.parametrize(
    "name",
    ["-x.wav", "ä ö 'q' \"z\".wav", "e\u0301.wav", "🎵.wav", "con.wav", "a:b?.wav", "x" * 251 + ".wav"],
)
def test_awkward_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(wav(ramp(100)))
    assert read(tmp_path / name).shape == (1, 100)


def test_a_name_that_is_no_unicode(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.wav"))
    path.write_bytes(wav(ramp(100)))
    assert read(path).shape == (1, 100)


@pytest.mark.parametrize(
    "make",
    [
        lambda: encoded(tone(2 * RATE), "WAV", "PCM_16"),
        lambda: encoded(tone(2 * RATE), "WAVEX", "FLOAT"),
        lambda: encoded(tone(2 * RATE), "RF64", "PCM_24"),
        lambda: encoded(tone(2 * RATE), "AIFF", "PCM_16"),
        lambda: encoded(tone(2 * RATE), "W64", "PCM_16"),
        lambda: encoded(tone(2 * RATE), "CAF", "PCM_16"),
        lambda: encoded(tone(2 * RATE), "AU", "PCM_16"),
        lambda: muxed(tone(2 * RATE), "wv", "wavpack", "s16p"),
        lambda: muxed(tone(2 * RATE), "tta", "tta", "s16"),
        lambda: encoded(tone(2 * RATE), "FLAC", "PCM_16"),
        lambda: encoded(tone(2 * RATE), "OGG", "VORBIS"),
        lambda: muxed(tone(2 * RATE), "mp3", "libmp3lame"),
        lambda: muxed(tone(2 * RATE), "mp3", "libmp3lame", options={"write_xing": "0"}),
        lambda: muxed(tone(2 * RATE), "ipod", "aac"),
        lambda: muxed(tone(2 * RATE), "mp4", "aac", options={"movflags": "frag_keyframe+empty_moov"}),
        lambda: muxed(tone(2 * RATE), "avi", "pcm_s16le", "s16", video=True),
        lambda: muxed(tone(2 * RATE), "matroska", "flac", "s16", video=True),
        lambda: muxed(tone(2 * 48_000, rate=48_000), "ogg", "libopus", "flt", 48_000),
    ],
    ids="wav wavex rf64 aiff w64 caf au wv tta flac vorbis mp3 bare-mp3 m4a fragments avi mkv opus".split(),
)
def test_cut_off_files_are_never_short_audio(tmp_path: Path, make: Callable[[], bytes]) -> None:
    data = make()
    for share in (0.02, 0.5, 0.85):
        refused(tmp_path / "x", data[: int(len(data) * share)], "cut off|damaged|not audio|no audio")


@pytest.mark.parametrize(
    "make",
    [
        lambda: encoded(tone(2 * RATE), "FLAC", "PCM_16"),
        lambda: encoded(tone(2 * RATE), "OGG", "VORBIS"),
        lambda: muxed(tone(2 * RATE), "mp3", "libmp3lame"),
        lambda: muxed(tone(2 * RATE), "ipod", "aac"),
    ],
    ids=["flac", "vorbis", "mp3", "m4a"],
)
@pytest.mark.parametrize("seed", range(3))
def test_damage_in_the_middle(tmp_path: Path, make: Callable[[], bytes], seed: int) -> None:
    data = bytearray(make())
    at = len(data) // 2 + seed * 500
    data[at : at + 2000] = np.random.default_rng(seed).bytes(2000)
    refused(tmp_path / "x", bytes(data), "damaged|cut off")


@pytest.mark.parametrize("cut", [1, 3, 200])
@pytest.mark.parametrize("form", ["WAV", "AIFF", "FLAC", "OGG"])
def test_a_few_bytes_are_missing(tmp_path: Path, form: str, cut: int) -> None:
    data = encoded(tone(RATE), form, "VORBIS" if form == "OGG" else "PCM_16")
    refused(tmp_path / "x", data[:-cut], "cut off|damaged")


def test_a_few_bytes_are_missing_of_mp3_and_m4a(tmp_path: Path) -> None:
    for muxer, codec in (("mp3", "libmp3lame"), ("ipod", "aac")):
        refused(tmp_path / "x", muxed(tone(RATE), muxer, codec)[:-1], "cut off|damaged")


def test_a_damaged_last_page(tmp_path: Path) -> None:
    data = bytearray(encoded(tone(RATE), "OGG", "VORBIS"))
    data[-20] ^= 1
    refused(tmp_path / "x.ogg", bytes(data), "last page is not whole")


def test_a_gap_in_a_videos_sound_is_told_and_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE)
        stream.codec_context.layout = "mono"
        for start in (0, 3 * RATE):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 4410), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (tmp_path / "x.mkv").write_bytes(buffer.getvalue())
    with caplog.at_level(logging.WARNING), open_source(tmp_path / "x.mkv") as source:
        for _ in range(2):
            assert sum(block.shape[1] for block in source.blocks()) == 8820
    assert caplog.text.count("leaves out 2.90 s at 0.10 s") == 1


@pytest.mark.parametrize("seed", range(10))
def test_a_flipped_bit_in_flac_is_found(tmp_path: Path, seed: int) -> None:
    data = bytearray(encoded(tone(RATE), "FLAC", "PCM_16"))
    generator = np.random.default_rng(seed)
    data[int(generator.integers(9000, len(data)))] ^= 1 << int(generator.integers(8))
    refused(tmp_path / "x.flac", bytes(data), "damaged|cut off")


def test_flac_of_unknown_length_cut_off(tmp_path: Path) -> None:
    data = bytearray(encoded(tone(RATE), "FLAC", "PCM_16"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    refused(tmp_path / "x.flac", bytes(data[: len(data) // 2]), "damaged")


def test_flac_with_a_wrong_md5_is_read(tmp_path: Path) -> None:
    # every frame has a checksum of its own; the digest over all is not looked at
    samples = tone(5000)
    data = bytearray(encoded(samples, "FLAC", "PCM_24"))
    data[26:42] = bytes(range(16))
    (tmp_path / "x.flac").write_bytes(data)
    np.testing.assert_allclose(read(tmp_path / "x.flac"), samples, atol=2**-23)


def test_wav_headers_that_promise_too_much_or_nothing(tmp_path: Path) -> None:
    refused(tmp_path / "more.wav", wav(ramp(100), data_size=201), "promises 245 bytes, the file has 244")
    refused(tmp_path / "header.wav", wav(b""), "no audio samples")
    refused(tmp_path / "no-data.wav", wav(b"")[:-8], "damaged|no audio")
    refused(tmp_path / "no-fmt.wav", b"RIFF\x0c\0\0\0WAVEdata\0\0\0\0", "damaged|no audio")


@pytest.mark.parametrize(
    ("rate", "match"), [(0, "0 Hz|damaged|no audio"), (1, "1 Hz"), (999, "999 Hz"), (2_000_000, "2000000 Hz")]
)
def test_absurd_sample_rates(tmp_path: Path, rate: int, match: str) -> None:
    refused(tmp_path / "x.wav", wav(ramp(1000), rate=rate), match)


@pytest.mark.parametrize(("channels", "bits"), [(0, 16), (65, 16), (1, 0), (1000, 16)])
def test_absurd_channels_and_depths(tmp_path: Path, channels: int, bits: int) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(wav(ramp(100_000), channels=channels, bits=bits))
    with pytest.raises(InputError):
        read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_nan_and_infinity_are_refused_with_their_time(tmp_path: Path, value: float, subtype: str) -> None:
    samples = tone(3 * RATE)
    samples[1, 2 * RATE + 441] = value
    refused(tmp_path / "x.wav", encoded(samples, "WAV", subtype), r"NaN or infinite sample at 2\.010 s")
    assert read(tmp_path / "x.wav", end_s=2.0).shape == (2, 2 * RATE)
    with pytest.raises(InputError, match=r"at 2\.010 s"):
        read(tmp_path / "x.wav", start_s=1.5)


def test_a_double_beyond_float32_is_infinite(tmp_path: Path) -> None:
    data = np.array([0.0, 1e300], "<f8").tobytes()
    refused(tmp_path / "x.wav", wav(data, bits=64, tag=3), "NaN or infinite")


def test_64_bit_integers_are_told(tmp_path: Path) -> None:
    refused(tmp_path / "x.wav", wav(bytes(800), bits=64), "samples of the kind s64")


def test_video_without_sound(tmp_path: Path) -> None:
    refused(tmp_path / "x.mp4", silent_video(), "no audio stream")


def test_mp3_that_changes_its_rate(tmp_path: Path) -> None:
    plain = {"write_xing": "0", "id3v2_version": "0"}
    first = muxed(tone(RATE), "mp3", "libmp3lame", options=plain)
    second = muxed(tone(48_000, rate=48_000), "mp3", "libmp3lame", rate=48_000, options=plain)
    refused(tmp_path / "x.mp3", first + second, "changes from .* Hz, 2 channels to .* Hz, 2 channels")
    mono = muxed(tone(RATE, 1), "mp3", "libmp3lame", options=plain)
    refused(tmp_path / "x.mp3", first + mono, "changes from .* 1 channels")


def test_mp3s_joined_with_their_tags_are_told(tmp_path: Path) -> None:
    data = muxed(tone(RATE), "mp3", "libmp3lame")
    refused(tmp_path / "x.mp3", data + data, r"damaged at 1\.\d+ s")


@pytest.mark.parametrize("junk", [bytes(5000), b"APETAGEX" + bytes(100), b"TAG" + bytes(125)])
@pytest.mark.parametrize("muxer", ["mp3", "flac", "ipod", "ogg", "wav"])
def test_bytes_behind_the_end_are_passed_over(tmp_path: Path, muxer: str, junk: bytes) -> None:
    codecs = {"mp3": ("libmp3lame", "fltp"), "flac": ("flac", "s16"), "ipod": ("aac", "fltp")}
    codecs |= {"ogg": ("libopus", "flt"), "wav": ("pcm_s16le", "s16")}
    samples = tone(48_000, rate=48_000)
    data = muxed(samples, muxer, *codecs[muxer], rate=48_000)
    (tmp_path / "x").write_bytes(data + junk)
    assert read(tmp_path / "x").shape == samples.shape


def test_quiet_on_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = muxed(tone(RATE), "mp3", "libmp3lame")
    refused(tmp_path / "x.mp3", data[: len(data) // 2], "cut off")
    refused(tmp_path / "y.m4a", muxed(tone(RATE), "ipod", "aac")[:9000], "cut off|not audio|damaged")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "M4A", "MKV"])
def test_fuzzed_headers_neither_crash_nor_hang(tmp_path: Path, form: str) -> None:
    if form == "M4A":
        good = muxed(tone(4000), "ipod", "aac")
    elif form == "MKV":
        good = muxed(tone(4000), "matroska", "flac", "s16")
    elif form == "MP3":
        good = muxed(tone(4000), "mp3", "libmp3lame")
    else:
        good = encoded(tone(4000), form, "VORBIS" if form == "OGG" else "PCM_16")
    generator = np.random.default_rng(7)
    path = tmp_path / "x"
    for _ in range(60):
        data = bytearray(good)
        for _ in range(int(generator.integers(1, 6))):
            place = int(generator.integers(0, min(len(data), 1200)))
            data[place] = int(generator.integers(256))
        path.write_bytes(data)
        try:
            with open_source(path) as source:
                assert sum(block.shape[1] for block in source.blocks()) < 10**7
        except InputError as error:
            assert error.remedy


def test_wav_with_more_chunks_than_sense(tmp_path: Path) -> None:
    body = b"WAVE" + b"junk\0\0\0\0" * 150_000
    refused(
        tmp_path / "x.wav", b"RIFF" + struct.pack("<I", len(body)) + body, "chunks|damaged|no audio|not audio"
    )


def test_arrays() -> None:
    with pytest.raises(InputError, match="no samples"):
        ArraySource(np.zeros((2, 0), np.float32), RATE)
    bad = np.zeros((2, 10), np.float32)
    bad[0, 5] = np.nan
    with pytest.raises(InputError, match="NaN"):
        ArraySource(bad, RATE)
    with pytest.raises(ValueError, match="shape"):
        ArraySource(np.zeros(5, np.float32), RATE)


def test_longer_silence_and_full_scale_are_fine(tmp_path: Path) -> None:
    for value in (0, 32767, -32768):
        (tmp_path / "x.wav").write_bytes(wav(np.full(5000, value, "<i2").tobytes()))
        np.testing.assert_array_equal(read(tmp_path / "x.wav"), np.float32(value / 32768))
