"""What a studio does to a stem: equaliser, compressor, saturation, width, room, and a codec.

Each effect is data that is drawn, and a function that applies it; `Treatment` is a chain of them.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.signal import fftconvolve, lfilter, sosfilt

from stemwright.core.arrays import FloatArray

_BLOCK_S = 0.002


@dataclass(frozen=True, kw_only=True)
class Band:
    """A band of an equaliser.

    Parameters
    ----------
    kind
        A peak at the frequency, or all below (low) or above (high) it.
    hz, gain_db, q
        Where, how much, how narrow.
    """

    kind: Literal["low", "peak", "high"]
    hz: float
    gain_db: float
    q: float = 0.7


@dataclass(frozen=True, kw_only=True)
class Compressor:
    """Levels above the threshold rise by 1/ratio of what they would; times of the level's rise and fall."""

    threshold_db: float
    ratio: float
    attack_s: float = 0.01
    release_s: float = 0.12


@dataclass(frozen=True, kw_only=True)
class Room:
    """A room.

    Parameters
    ----------
    decay_s
        Time in which its sound falls by 60 dB.
    size_m
        Longest side: when the first reflections come.
    wet_db
        Level of the room beside the direct sound.
    damping_hz
        Above this the sound decays three times as fast.
    seed
        Of the reflections.
    """

    decay_s: float
    size_m: float
    wet_db: float
    damping_hz: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """A chain: equaliser, saturation, compressor, width, room, codec; what is None or empty is left out.

    Parameters
    ----------
    drive
        Of the saturation: 1 bends full scale to tanh(1).
    width
        Factor of the difference between the channels: 0 makes mono, 1 leaves them.
    codec_kbps
        Once through MP3 at this rate.
    """

    bands: tuple[Band, ...] = ()
    drive: float = 0.0
    compressor: Compressor | None = None
    width: float = 1.0
    room: Room | None = None
    codec_kbps: int | None = None


def draw_treatment(rng: np.random.Generator, *, wet: float = 0.6, codec_share: float = 0.15) -> Treatment:
    """Draw a chain as mixing engineers' ones might be.

    Parameters
    ----------
    wet
        Share of the stems with a room.
    codec_share
        Share of those that went through MP3.
    """
    bands = (
        Band(kind="low", hz=float(rng.uniform(60, 250)), gain_db=float(rng.normal(0, 3))),
        *(
            Band(
                kind="peak", hz=float(np.exp(rng.uniform(np.log(200), np.log(6000)))),
                gain_db=float(rng.normal(0, 4)), q=float(rng.uniform(0.5, 2.5)),
            )
            for _ in range(int(rng.integers(3)))
        ),
        Band(kind="high", hz=float(rng.uniform(3000, 9000)), gain_db=float(rng.normal(0, 4))),
    )  # fmt: skip
    compressor = Compressor(
        threshold_db=float(rng.uniform(-30, -12)),
        ratio=float(rng.uniform(1.5, 6)),
        attack_s=float(rng.uniform(0.002, 0.03)),
        release_s=float(rng.uniform(0.05, 0.3)),
    )
    room = Room(
        decay_s=float(np.exp(rng.uniform(np.log(0.2), np.log(2.5)))),
        size_m=float(rng.uniform(3, 25)),
        wet_db=float(rng.uniform(-24, -6)),
        damping_hz=float(rng.uniform(2000, 8000)),
        seed=int(rng.integers(1 << 31)),
    )
    squeezed, bent, wetted, coded = rng.random(4) < (0.7, 0.25, wet, codec_share)
    drive, width = float(rng.uniform(0.5, 3)), float(rng.uniform(0.2, 1.6))
    kbps = int(rng.choice((64, 96, 128, 192)))
    return Treatment(
        bands=bands,
        drive=drive if bent else 0.0,
        compressor=compressor if squeezed else None,
        width=width,
        room=room if wetted else None,
        codec_kbps=kbps if coded else None,
    )


def treated(samples: FloatArray, treatment: Treatment, sample_rate: int) -> FloatArray:
    """Apply a chain.

    Parameters
    ----------
    samples
        shape=(2, n).

    Returns
    -------
    FloatArray
        shape=(2, n): what a room adds behind the end is cut off.
    """
    out = equalised(samples, treatment.bands, sample_rate)
    if treatment.drive:
        out = (np.tanh(out * treatment.drive) / treatment.drive).astype(np.float32)
    if treatment.compressor is not None:
        out = compressed(out, treatment.compressor, sample_rate)
    middle, side = (out[0] + out[1]) / 2, (out[0] - out[1]) / 2 * np.float32(treatment.width)
    out = np.stack([middle + side, middle - side]).astype(np.float32)
    if treatment.room is not None:
        out = in_room(out, treatment.room, sample_rate)
    if treatment.codec_kbps is not None:
        out = coded(out, treatment.codec_kbps, sample_rate)
    return out


def equalised(samples: FloatArray, bands: tuple[Band, ...], sample_rate: int) -> FloatArray:
    """Apply an equaliser; bands at or above half the rate are left out."""
    inside = [band for band in bands if band.hz < 0.49 * sample_rate]
    if not inside:
        return samples
    sections = np.stack([_section(band, sample_rate) for band in inside])
    out: FloatArray = sosfilt(sections, samples, axis=1).astype(np.float32)
    return out


def _section(band: Band, sample_rate: int) -> npt.NDArray[np.float64]:
    """R. Bristow-Johnson's "Cookbook formulae for audio EQ biquad filter coefficients"."""
    a = 10 ** (band.gain_db / 40)
    w = 2 * np.pi * band.hz / sample_rate
    cos, alpha = np.cos(w), np.sin(w) / (2 * band.q)
    if band.kind == "peak":
        section = [1 + alpha * a, -2 * cos, 1 - alpha * a, 1 + alpha / a, -2 * cos, 1 - alpha / a]
    else:
        sign = 1 if band.kind == "low" else -1
        root = 2 * np.sqrt(a) * alpha
        section = [
            a * ((a + 1) - sign * (a - 1) * cos + root),
            sign * 2 * a * ((a - 1) - sign * (a + 1) * cos),
            a * ((a + 1) - sign * (a - 1) * cos - root),
            (a + 1) + sign * (a - 1) * cos + root,
            -sign * 2 * ((a - 1) + sign * (a + 1) * cos),
            (a + 1) + sign * (a - 1) * cos - root,
        ]
    coefficients: npt.NDArray[np.float64] = np.array(section) / section[3]
    return coefficients


def compressed(samples: FloatArray, compressor: Compressor, sample_rate: int) -> FloatArray:
    """Compress both channels alike, by their level in blocks of 2 ms."""
    block = max(1, round(_BLOCK_S * sample_rate))
    count = -(-samples.shape[1] // block)
    padded = np.pad(samples, ((0, 0), (0, count * block - samples.shape[1])))
    power = np.square(padded, dtype=np.float64).mean(axis=0).reshape(count, block).mean(axis=1)
    level = 10 * np.log10(np.maximum(power, 1e-10))
    over = np.maximum(0.0, level - compressor.threshold_db) * (1 - 1 / compressor.ratio)
    rise, fall = (np.exp(-_BLOCK_S / s) for s in (compressor.attack_s, compressor.release_s))
    reduction = np.empty(count)
    held = 0.0
    for place, wanted in enumerate(over):  # a two-speed follower has no closed form
        pace = rise if wanted > held else fall
        held = pace * held + (1 - pace) * wanted
        reduction[place] = held
    at = np.arange(samples.shape[1])
    gain = 10 ** (-np.interp(at, np.arange(count) * block + block / 2, reduction) / 20)
    return (samples * gain.astype(np.float32)).astype(np.float32)


def in_room(samples: FloatArray, room: Room, sample_rate: int) -> FloatArray:
    """Add a room's sound."""
    response = room_response(room, sample_rate)
    wet = np.stack([fftconvolve(samples[c], response[c])[: samples.shape[1]] for c in range(2)])
    return (samples + wet.astype(np.float32) * np.float32(10 ** (room.wet_db / 20))).astype(np.float32)


def room_response(room: Room, sample_rate: int) -> FloatArray:
    """Return what two ears hear of an impulse in a room, less the impulse, of energy 1, shape=(2, n).

    Some early reflections between the walls, then noise that decays, the high frequencies faster.
    """
    rng = np.random.default_rng(room.seed)
    frames = max(2, round(room.decay_s * sample_rate))
    time = np.arange(frames) / sample_rate
    noise = rng.standard_normal((2, frames))
    pole = np.exp(-2 * np.pi * min(room.damping_hz, 0.45 * sample_rate) / sample_rate)
    low = lfilter([1 - pole], [1, -pole], noise, axis=1)
    decay = np.exp(-6.91 * time / room.decay_s)
    first = 2 * room.size_m / 343 * 0.35
    tail = (low * decay + (noise - low) * decay**3) * (1 - np.exp(-time / first))
    for _ in range(8):
        at = int(rng.uniform(0.2, 2.0) * first * sample_rate)
        if at < frames:
            tail[int(rng.integers(2)), at] += rng.choice((-1.0, 1.0)) * rng.uniform(2, 6) * decay[at]
    response: FloatArray = (tail / np.sqrt(np.square(tail).sum() / 2)).astype(np.float32)
    return response


def coded(samples: FloatArray, kbps: int, sample_rate: int) -> FloatArray:
    """Encode as MP3 and decode again; place and length are kept."""
    from stemwright.core.audio.encode import open_writer  # codecs are not where packs are only read
    from stemwright.core.audio.formats import OutputFormat
    from stemwright.core.audio.source import open_source

    with tempfile.TemporaryDirectory(prefix="stemwright-") as folder:
        path = Path(folder, "coded.mp3")
        fmt = OutputFormat(container="mp3", bitrate_kbps=kbps if sample_rate >= 32_000 else min(kbps, 160))
        with open_writer(path, fmt, sample_rate, samples.shape[0]) as writer:
            writer.write(samples)
            writer.commit()
        out = np.concatenate(list(open_source(path).blocks()), axis=1)
    return np.pad(out, ((0, 0), (0, max(0, samples.shape[1] - out.shape[1]))))[:, : samples.shape[1]]
