"""Formats of files to write: what each can hold, and how it is made."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stemwright.core.audio.muxing import Encoding
from stemwright.core.errors import OutputError

ContainerName = Literal["wav", "flac", "mp3", "ogg", "m4a"]
BitDepth = Literal["16", "24", "32f"]

_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_AAC_RATES = (7350, *_MP3_RATES, 64000, 88200, 96000)
_FLAC_RATES = range(1000, 655_351)
_VORBIS_RATES = range(6000, 200_001)
# libsndfile writes Vorbis channels beyond stereo in the order given, not in that of the format;
# FFmpeg's AAC encoder takes only the layouts that AAC has numbers for.
_CHANNELS: Mapping[str, Container[int]] = {
    "wav": range(1, 65),
    "flac": range(1, 9),
    "mp3": (1, 2),
    "ogg": (1, 2),
    "m4a": (1, 2, 6),
}
_KBPS = {"mp3": range(8, 321), "ogg": range(32, 501), "m4a": range(16, 513)}
_DEFAULT_KBPS = {"mp3": 320, "m4a": 256, "ogg": 256}
# Nominal kbit/s of libvorbis' qualities 0 to 1 in steps of 0.1, 44.1 kHz stereo.
_VORBIS_KBPS = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 500)


@dataclass(frozen=True, kw_only=True)
class OutputFormat:
    """Format of a file to write.

    Parameters
    ----------
    container
        "ogg" holds Vorbis, because Opus would change most sample rates; "m4a" holds AAC.
    bit_depth
        For WAV ("16", "24" or "32f") and FLAC ("16" or "24"); lossy formats have none.
    bitrate_kbps
        For lossy formats; by default 320 for MP3, 256 for AAC, 256 nominal for Vorbis.
    """

    container: ContainerName
    bit_depth: BitDepth = "16"
    bitrate_kbps: int | None = None

    @property
    def extension(self) -> str:
        """Suffix of such files, with its dot."""
        return f".{self.container}"

    @property
    def lossy(self) -> bool:
        """Whether decoding gives other samples than were written."""
        return self.container in _DEFAULT_KBPS

    @property
    def clamps(self) -> bool:
        """Whether samples beyond full scale are clamped when they are written."""
        return not self.lossy and self.bit_depth != "32f"


def estimated_bytes(fmt: OutputFormat, sample_rate: int, channels: int, frames: int) -> int:
    """Size of a file of `frames` frames; for FLAC that of the samples uncompressed."""
    if fmt.lossy:
        kbps = fmt.bitrate_kbps or _DEFAULT_KBPS[fmt.container]
        return round(frames / sample_rate * kbps * 125)
    return frames * channels * {"16": 2, "24": 3, "32f": 4}[fmt.bit_depth]


def check_format(fmt: OutputFormat, sample_rate: int, channels: int) -> None:
    """Check that a format can hold audio of this rate and channel count.

    Raises
    ------
    OutputError
        It cannot; the remedy names the formats that can.
    """
    fault = _fault(fmt, sample_rate, channels)
    kbps = _KBPS.get(fmt.container)
    if not fault and kbps and fmt.bitrate_kbps is not None and fmt.bitrate_kbps not in kbps:
        raise OutputError(
            f"{fmt.container} cannot be written with {fmt.bitrate_kbps} kbit/s",
            f"use {kbps.start} to {kbps.stop - 1} kbit/s",
        )
    if not fault:
        return
    others = [
        name
        for name in ("wav", "flac", "ogg", "m4a", "mp3")
        if not _fault(OutputFormat(container=name), sample_rate, channels)
    ]
    raise OutputError(fault, f"use one of these formats: {', '.join(others)}")


def _fault(fmt: OutputFormat, sample_rate: int, channels: int) -> str:
    rates = {"mp3": _MP3_RATES, "m4a": _AAC_RATES, "flac": _FLAC_RATES, "ogg": _VORBIS_RATES}
    if fmt.container == "flac" and fmt.bit_depth == "32f":
        return "FLAC cannot hold 32-bit float samples"
    if channels not in _CHANNELS[fmt.container]:
        return f"{fmt.container} cannot hold {channels} channels"
    if fmt.container in rates and sample_rate not in rates[fmt.container]:
        return f"{fmt.container} cannot hold audio at {sample_rate} Hz"
    return ""


def encoding_of(fmt: OutputFormat, sample_rate: int) -> Encoding:
    """How FFmpeg makes a format; Ogg Vorbis, made by libsndfile, is not among them."""
    bit_rate = (fmt.bitrate_kbps or _DEFAULT_KBPS.get(fmt.container, 0)) * 1000
    if fmt.container == "mp3":
        return Encoding(
            muxer="mp3", codec="libmp3lame", sample_format="fltp", style="id3", bit_rate=bit_rate, cover=True
        )
    if fmt.container == "m4a":
        # the edit list counts in the movie's time scale: samples, so that it is exact
        return Encoding(
            muxer="ipod",
            codec="aac",
            sample_format="fltp",
            style="mp4",
            bit_rate=bit_rate,
            muxer_options=(("movie_timescale", str(sample_rate)),),
        )
    bits = {"16": 16, "24": 24, "32f": 0}[fmt.bit_depth]
    if fmt.container == "flac":
        return Encoding(
            muxer="flac",
            codec="flac",
            sample_format="s16" if bits == 16 else "s32",
            style="vorbis",
            integer_bits=bits,
            codec_options=(("bits_per_raw_sample", str(bits)),),
            cover=True,
        )
    codec, sample_format = {
        16: ("pcm_s16le", "s16"),
        24: ("pcm_s24le", "s32"),
        0: ("pcm_f32le", "flt"),
    }[bits]
    return Encoding(
        muxer="wav",
        codec=codec,
        sample_format=sample_format,
        style="riff",
        integer_bits=bits,
        muxer_options=(("rf64", "auto"),),
    )


def vorbis_quality(fmt: OutputFormat) -> float:
    """Quality of libvorbis, 0 to 1, whose nominal bit rate is the asked one."""
    kbps = fmt.bitrate_kbps or _DEFAULT_KBPS["ogg"]
    return float(np.interp(kbps, _VORBIS_KBPS, np.arange(11) / 10))
