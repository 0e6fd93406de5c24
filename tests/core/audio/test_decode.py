"""Decoding of every kind of file: values and lengths against soundfile and known signals."""

import csv
import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemwright.core.audio.source import ArraySource, open_source
from tests.core.audio.signals import RATE, encoded, muxed, read, tone, wav
from tests.support.paths import shared

LOSSLESS = [
    ("WAV", "PCM_U8", 8),
    ("WAV", "PCM_16", 16),
    ("WAV", "PCM_24", 24),
    ("WAV", "PCM_32", 32),
    ("WAV", "FLOAT", 32),
    ("WAV", "DOUBLE", 64),
    ("WAV", "ALAW", 8),
    ("WAV", "ULAW", 8),
    ("WAVEX", "PCM_16", 16),
    ("WAVEX", "PCM_24", 24),
    ("WAVEX", "FLOAT", 32),
    ("RF64", "PCM_16", 16),
    ("W64", "PCM_24", 24),
    ("AIFF", "PCM_16", 16),
    ("AIFF", "PCM_24", 24),
    ("AU", "PCM_16", 16),
    ("CAF", "PCM_16", 16),
    ("FLAC", "PCM_16", 16),
    ("FLAC", "PCM_24", 24),
]


@pytest.mark.parametrize(("form", "subtype", "depth"), LOSSLESS)
@pytest.mark.parametrize("channels", [1, 2])
def test_lossless_equals_soundfile(
    tmp_path: Path, form: str, subtype: str, depth: int, channels: int
) -> None:
    data = encoded(tone(5003, channels), form, subtype)
    (tmp_path / "x").write_bytes(data)
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    np.testing.assert_array_equal(read(tmp_path / "x"), expected.T)
    with open_source(tmp_path / "x") as source:
        assert (source.info.sample_rate, source.info.channels, source.info.bit_depth) == (
            RATE,
            channels,
            depth,
        )
        assert source.info.frames == 5003


@pytest.mark.parametrize(
    "rate", [8000, 11025, 16000, 22050, 24000, 32000, 44056, 48000, 88200, 96000, 192000]
)
def test_any_sample_rate(tmp_path: Path, rate: int) -> None:
    (tmp_path / "x.wav").write_bytes(encoded(tone(777), "WAV", "PCM_16", rate))
    with open_source(tmp_path / "x.wav") as source:
        assert source.info.sample_rate == rate
        assert sum(block.shape[1] for block in source.blocks()) == 777


@pytest.mark.parametrize(
    ("channels", "layout"),
    [
        (1, ("FC",)),
        (2, ("FL", "FR")),
        (3, ("CH1", "CH2", "CH3")),
        (6, ("FL", "FR", "FC", "LFE", "BL", "BR")),
        (8, ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR")),
    ],
)
def test_channel_counts(tmp_path: Path, channels: int, layout: tuple[str, ...]) -> None:
    samples = tone(1000, channels)
    (tmp_path / "x.wav").write_bytes(encoded(samples, "WAV", "FLOAT"))
    np.testing.assert_array_equal(read(tmp_path / "x.wav"), samples)
    with open_source(tmp_path / "x.wav") as source:
        assert source.info.layout == layout


@pytest.mark.parametrize("frames", [1, 2, 100, 441, 1024, 4410, 50_021])
@pytest.mark.parametrize(
    ("form", "subtype"), [("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("FLAC", "PCM_16")]
)
def test_lossy_lengths_equal_what_was_written(tmp_path: Path, form: str, subtype: str, frames: int) -> None:
    data = encoded(tone(frames), form, subtype)
    (tmp_path / "x").write_bytes(data)
    got = read(tmp_path / "x")
    if form == "MP3" and frames < 1024:
        # libsndfile's own MP3 header holds no length below one frame
        assert got.shape[1] >= frames
        return
    assert got.shape == (2, frames)
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    np.testing.assert_allclose(got, expected.T, atol=2e-4)


def test_mp3_has_no_delay(tmp_path: Path) -> None:
    click = np.zeros((1, RATE), np.float32)
    click[0, 20_000] = 0.9
    (tmp_path / "x.mp3").write_bytes(muxed(click, "mp3", "libmp3lame"))
    got = read(tmp_path / "x.mp3")
    assert got.shape == (1, RATE)
    assert int(np.argmax(np.abs(got[0]))) == 20_000


@pytest.mark.parametrize(
    ("muxer", "codec", "sample_format", "rate", "video"),
    [
        ("ipod", "aac", "fltp", RATE, False),
        ("ipod", "alac", "s16p", RATE, False),
        ("mp4", "aac", "fltp", 48_000, False),
        ("mp4", "aac", "fltp", RATE, True),
        ("mp4", "libopus", "flt", 48_000, True),
        ("mov", "pcm_s16le", "s16", RATE, True),
        ("ogg", "libopus", "flt", 48_000, False),
        ("webm", "libopus", "flt", 48_000, False),
        ("matroska", "flac", "s16", RATE, True),
        ("avi", "pcm_s16le", "s16", RATE, True),
    ],
)
def test_containers_keep_the_length_and_have_no_delay(
    tmp_path: Path, muxer: str, codec: str, sample_format: str, rate: int, video: bool
) -> None:
    samples = tone(30_011, rate=rate)
    (tmp_path / "x").write_bytes(muxed(samples, muxer, codec, sample_format, rate, video=video))
    got = read(tmp_path / "x")
    if (muxer, codec) == ("mp4", "libopus"):
        # MP4's clock of Opus counts packets of 20 ms at the end
        assert 0 <= got.shape[1] - samples.shape[1] < 960
        got = got[:, : samples.shape[1]]
    assert got.shape == samples.shape
    lag = np.argmax(np.correlate(got[0, 5000:7000], samples[0, 5100:6900], "valid")) - 100
    assert lag == 0
    with open_source(tmp_path / "x") as source:
        assert source.info.start_s == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize(
    ("muxer", "codec", "form"), [("mov", "pcm_s16le", "s16"), ("matroska", "flac", "s16")]
)
def test_start_time_of_a_videos_sound(tmp_path: Path, muxer: str, codec: str, form: str) -> None:
    samples = tone(RATE)
    (tmp_path / "x").write_bytes(muxed(samples, muxer, codec, form, delay=RATE // 2, video=True))
    assert read(tmp_path / "x").shape == samples.shape
    with open_source(tmp_path / "x") as source:
        assert source.info.start_s == pytest.approx(0.5, abs=0.002)
    with open_source(tmp_path / "x", start_s=0.2) as source:
        assert source.info.start_s == 0.0


def test_fragmented_mp4(tmp_path: Path) -> None:
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "100000"}
    (tmp_path / "x.mp4").write_bytes(muxed(tone(RATE), "mp4", "aac", options=options))
    assert abs(read(tmp_path / "x.mp4").shape[1] - RATE) <= 1024


def test_itunes_note_of_delay_and_length(tmp_path: Path) -> None:
    # iTunes' AAC counts whole frames in its tables; only the note tells the true length
    from stemwright.core.audio.mp4 import add_items, edit_movie, free_form

    file = io.BytesIO(muxed(tone(RATE), "ipod", "aac"))
    note = f" 00000000 00000400 00000000 {RATE - 300:016X} 00000000"
    edit_movie(file, lambda movie: add_items(movie, [free_form("iTunSMPB", note)]))
    (tmp_path / "x.m4a").write_bytes(file.getvalue())
    assert read(tmp_path / "x.m4a").shape[1] == RATE - 300


def test_musdb_stem_file() -> None:
    path = shared("data", "fixtures", "musdb_7s_sample", "train", "Music Delta - 80s Rock.stem.mp4")
    tracks = [read(path, stream=number) for number in range(5)]
    assert {track.shape for track in tracks} == {(2, 300_032)}
    error = tracks[0] - sum(tracks[1:])
    assert 10 * np.log10((tracks[0] ** 2).mean() / (error**2).mean()) > 20


def test_real_files_have_the_measured_values() -> None:
    root = shared("data")
    with (root / "checks.csv").open(newline="") as file:
        rows = [
            row for row in csv.DictReader(file) if row["file"].startswith(("lyrics_songs", "music_stems"))
        ]
    for row in rows[::6]:
        with open_source(root / row["file"]) as source:
            assert source.info.sample_rate == int(row["sample_rate"])
            peak, energy, frames = 0.0, 0.0, 0
            for block in source.blocks():
                peak = max(peak, float(np.abs(block).max()))
                energy += float((block.astype(np.float64) ** 2).sum())
                frames += block.shape[1]
        assert frames / source.info.sample_rate == pytest.approx(float(row["seconds"]), abs=6e-4)
        if float(row["rms_dbfs"]) > -90:
            rms = 10 * np.log10(energy / frames / source.info.channels)
            assert rms == pytest.approx(float(row["rms_dbfs"]), abs=0.06)
            assert peak == pytest.approx(float(row["peak"]), abs=0.01)


def test_opus_equals_libsndfile_in_length_and_nearly_in_value() -> None:
    path = shared("data", "lyrics_songs", "Joshua Morin - On the run").parent
    opus = next(path.glob("*/audio.opus"))
    expected, _ = soundfile.read(opus, dtype="float32", frames=100_000)
    got = read(opus, end_s=100_000 / 48_000)
    assert got.shape == expected.T.shape
    assert 10 * np.log10((expected**2).mean() / ((got - expected.T) ** 2).mean()) > 50


@pytest.mark.parametrize("block_frames", [1, 7, 1000, 65_536, 10**6])
def test_blocks_have_the_asked_size(tmp_path: Path, block_frames: int) -> None:
    samples = tone(2500)
    (tmp_path / "x.flac").write_bytes(encoded(samples, "FLAC", "PCM_24"))
    with open_source(tmp_path / "x.flac") as source:
        blocks = list(source.blocks(block_frames))
    assert all(block.shape[1] == block_frames for block in blocks[:-1])
    assert 0 < blocks[-1].shape[1] <= block_frames
    assert all(block.dtype == np.float32 for block in blocks)
    np.testing.assert_allclose(np.concatenate(blocks, axis=1), samples, atol=2**-23)


def test_a_source_can_be_read_again_and_left_early(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(encoded(tone(5000), "WAV", "FLOAT"))
    with open_source(tmp_path / "x.wav") as source:
        reader = source.blocks(100)
        first = next(reader)
        np.testing.assert_array_equal(next(source.blocks(100)), first)
        del reader
        assert sum(block.shape[1] for block in source.blocks()) == 5000


def test_values_beyond_full_scale_are_kept(tmp_path: Path) -> None:
    samples = np.array([[100.0, -100.0, 1e-40, 0.0]], np.float32)
    (tmp_path / "x.wav").write_bytes(encoded(samples, "WAV", "FLOAT"))
    np.testing.assert_array_equal(read(tmp_path / "x.wav"), samples)


def test_content_decides_not_the_suffix(tmp_path: Path) -> None:
    samples = tone(3000)
    (tmp_path / "a.mp3").write_bytes(encoded(samples, "FLAC", "PCM_24"))
    (tmp_path / "b.wav").write_bytes(muxed(samples, "mp3", "libmp3lame"))
    (tmp_path / "c").write_bytes(muxed(samples, "ipod", "aac"))
    for name, container in (("a.mp3", "flac"), ("b.wav", "mp3"), ("c", "mov")):
        assert read(tmp_path / name).shape == samples.shape
        with open_source(tmp_path / name) as source:
            assert source.info.container == container


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_streamed_wav_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    data = np.arange(-500, 500, dtype="<i2").tobytes()
    (tmp_path / "x.wav").write_bytes(wav(data, data_size=size))
    np.testing.assert_array_equal(read(tmp_path / "x.wav")[0] * 32768, np.arange(-500, 500))


def test_wav_with_other_chunks_around(tmp_path: Path) -> None:
    data = np.arange(-500, 500, dtype="<i2").tobytes()
    before = [(b"JUNK", b"x" * 1001), (b"LIST", b"INFOINAM" + struct.pack("<I", 4) + b"hey\0")]
    (tmp_path / "x.wav").write_bytes(wav(data, before=before) + b"LIST\x04\0\0\0INFO")
    assert read(tmp_path / "x.wav").shape == (1, 1000)


def test_mp3_with_a_large_picture_and_tags_behind(tmp_path: Path) -> None:
    size = 3 << 20
    frame = b"APIC" + struct.pack(">I", size) + b"\0\0" + b"\0image/jpeg\0\3\0"
    body = frame + bytes(size + 10 - len(frame))
    syncsafe = bytes(len(body) >> shift & 127 for shift in (21, 14, 7, 0))
    samples = tone(RATE)
    data = b"ID3\3\0\0" + syncsafe + body + muxed(samples, "mp3", "libmp3lame") + b"TAG" + bytes(125)
    (tmp_path / "x.mp3").write_bytes(data)
    assert read(tmp_path / "x.mp3").shape == samples.shape


def test_mp3_without_a_header_frame(tmp_path: Path) -> None:
    data = muxed(tone(RATE), "mp3", "libmp3lame", options={"write_xing": "0", "id3v2_version": "0"})
    (tmp_path / "x.mp3").write_bytes(data)
    # nothing tells delay and padding then: whole frames
    assert read(tmp_path / "x.mp3").shape[1] % 1152 == 0


def test_chained_ogg_gives_all_links(tmp_path: Path) -> None:
    first, second = encoded(tone(RATE), "OGG", "VORBIS"), encoded(tone(RATE // 2), "OGG", "VORBIS")
    (tmp_path / "x.ogg").write_bytes(first + second)
    # where two links meet, up to a block of Vorbis remains
    assert 0 <= read(tmp_path / "x.ogg").shape[1] - (RATE + RATE // 2) <= 4096


def test_flac_of_unknown_length(tmp_path: Path) -> None:
    data = bytearray(encoded(tone(5000), "FLAC", "PCM_16"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    (tmp_path / "x.flac").write_bytes(data)
    assert read(tmp_path / "x.flac").shape == (2, 5000)


def test_array_source() -> None:
    samples = tone(1000)
    source = ArraySource(samples, RATE)
    assert (source.info.channels, source.info.frames, source.info.layout) == (2, 1000, ("FL", "FR"))
    blocks = list(source.blocks(300))
    assert [block.shape[1] for block in blocks] == [300, 300, 300, 100]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), samples)
