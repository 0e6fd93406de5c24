"""Oracles: what masks and the mixture itself would score, the ceiling and the floor of a table.

The masks are made of the true stems' magnitudes and put on the mixture's spectrum, whose phase they keep:

    ibm      1 where |S_i| is the largest, else 0         (the first of equals)
    irm      |S_i| / sum_j |S_j|
    wiener   |S_i|^2 / sum_j |S_j|^2
    mixture  no mask: every estimate is the mixture

each channel by itself. Where all true stems are silent, the masks of irm and wiener are 0. Frames are centred
with zeros around the signal, and the inverse divides by the sum of the squared windows, as scipy.signal.stft
and istft do.

References
----------
Y. Luo, N. Mesgarani, "Conv-TasNet", IEEE/ACM TASLP 2019, section III (masks; 32 ms and 8 ms for speech).
F.-R. Stöter et al., "Open-Unmix", JOSS 2019 (4096 and 1024 for music at 44.1 kHz).
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import parse_qsl

import numpy as np
import scipy.fft

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import AudioSource
from stemwright.core.errors import InputError, OptionError
from stemwright.eval.bss_eval.projection import Doubles
from stemwright.eval.datasets.contract import Nature, OpenTrack

PREFIX = "oracle:"
OracleKind = Literal["ibm", "irm", "wiener", "mixture"]
KINDS: tuple[OracleKind, ...] = get_args(OracleKind)
_BLOCK_FRAMES = 65_536
_SPEECH_S, _SPEECH_HOP_S = 0.032, 0.008
_MUSIC_N_FFT, _NARROW_N_FFT = 4096, 1024
_NARROW_HZ = 32_000
"""Music below this rate gets the shorter transform, which is as long in time: chosen here."""


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """What an oracle does.

    Parameters
    ----------
    kind
        Which.
    n_fft, hop
        Hann window and its step in samples; None for the defaults: 32 and 8 ms for speech and sound events,
        4096 and 1024 for music (1024 and 256 below 32 kHz). A hop alone None is a quarter of the window.
    """

    kind: OracleKind
    n_fft: int | None = None
    hop: int | None = None

    def resolved(self, nature: Nature, sample_rate: int) -> tuple[int, int]:
        """Return the window and the step in samples for signals of this kind and rate."""
        if self.n_fft is not None:
            return self.n_fft, self.hop or self.n_fft // 4
        if nature == "music":
            n_fft = _MUSIC_N_FFT if sample_rate >= _NARROW_HZ else _NARROW_N_FFT
            return n_fft, self.hop or n_fft // 4
        n_fft = 2 * round(_SPEECH_S * sample_rate / 2)
        return n_fft, self.hop or round(_SPEECH_HOP_S * sample_rate)

    @property
    def label(self) -> str:
        """What to call it, as it is asked for."""
        given = [f"{name}={value}" for name, value in (("n_fft", self.n_fft), ("hop", self.hop)) if value]
        return f"{PREFIX}{self.kind}" + (f"?{'&'.join(given)}" if given else "")

    def options(self) -> dict[str, int | str | None]:
        """Return what was chosen, for run.json."""
        return {"oracle": self.kind} | (
            {} if self.kind == "mixture" else {"n_fft": self.n_fft, "hop": self.hop}
        )


def parse_oracle(text: str) -> Oracle:
    """Read `oracle:KIND`, perhaps with `?n_fft=N&hop=N`.

    Raises
    ------
    OptionError
        An unknown oracle or option, or numbers that make no transform.
    """
    kind, _, query = text.removeprefix(PREFIX).partition("?")
    known: dict[str, OracleKind] = {name: name for name in KINDS}
    if kind not in known:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        remedy = f"did you mean {PREFIX}{near[0]}?" if near else f"there are {', '.join(KINDS)}"
        raise OptionError(f"there is no oracle {kind!r}", remedy)
    given = dict(parse_qsl(query, keep_blank_values=True))
    for name in given:
        if name not in ("n_fft", "hop") or kind == "mixture":
            raise OptionError(f"{PREFIX}{kind} has no option {name}", "masks have n_fft and hop")
    try:
        n_fft, hop = (int(given[name]) if name in given else None for name in ("n_fft", "hop"))
    except ValueError:
        raise OptionError(f"{text!r} has an option that is no whole number", "write ?n_fft=4096") from None
    if n_fft is not None and (n_fft < 4 or n_fft % 2 or n_fft > 1 << 16):
        raise OptionError(f"n_fft {n_fft} is not possible", "give an even number from 4 to 65536")
    if hop is not None and not 1 <= hop <= (n_fft or 1 << 16) // 2:
        raise OptionError(f"hop {hop} is not possible", "give at most half of n_fft")
    return Oracle(kind=known[kind], n_fft=n_fft, hop=hop)


def oracle_blocks(oracle: Oracle, track: OpenTrack, nature: Nature) -> Iterator[dict[str, FloatArray]]:
    """Yield the oracle's estimates of all stems, as long as the shortest of mixture and stems.

    Raises
    ------
    InputError
        The mixture and the stems have other rates or channels, or cannot be read.
    """
    names = tuple(track.references)
    if oracle.kind == "mixture":
        for block in track.mixture.blocks(_BLOCK_FRAMES):
            yield dict.fromkeys(names, block)
        return
    n_fft, hop = oracle.resolved(nature, track.mixture.info.sample_rate)
    if not 1 <= hop <= n_fft // 2:
        raise OptionError(f"hop {hop} is more than half of n_fft {n_fft}", "give a smaller hop")
    sources = [track.mixture, *(named.source for named in track.references.values())]
    for estimates in _Masking(oracle.kind, n_fft, hop).estimates(_joined(sources)):
        yield {name: estimates[index].astype(np.float32) for index, name in enumerate(names)}


def _joined(sources: Sequence[AudioSource]) -> Iterator[Doubles]:
    """Read sources in step: shape=(sources, channels, n)."""
    channels = {source.info.channels for source in sources}
    rates = {source.info.sample_rate for source in sources}
    if len(channels) > 1 or len(rates) > 1:
        raise InputError(
            "the mixture has another rate or other channels than its stems", "give the mixture of these stems"
        )
    for parts in zip(*(source.blocks(_BLOCK_FRAMES) for source in sources), strict=False):
        count = min(part.shape[1] for part in parts)
        yield np.stack([part[:, :count] for part in parts]).astype(np.float64)


class _Masking:
    """Masks of a stream: spectra of the frames that are complete, overlap-added."""

    def __init__(self, kind: OracleKind, n_fft: int, hop: int) -> None:
        self._kind = kind
        self._n_fft, self._hop = n_fft, hop
        self._window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)

    def estimates(self, blocks: Iterator[Doubles]) -> Iterator[Doubles]:
        """Yield estimates, shape=(stems, channels, n), of (1 + stems, channels, n): the mixture first."""
        waiting: Doubles | None = None
        tail, weight = np.zeros(0), np.zeros(0)
        samples = given = 0
        head = self._n_fft // 2
        for block, last in _with_end(blocks, self._n_fft, self._hop):
            if waiting is None:
                waiting = np.zeros((*block.shape[:2], head))
            samples += 0 if last else block.shape[-1]
            waiting = np.concatenate([waiting, block], axis=-1)
            count = (waiting.shape[-1] - self._n_fft) // self._hop + 1
            if count > 0:
                sums, weights = self._added(self._frames(waiting, count))
                sums[..., : len(weight)] += tail
                weights[: len(weight)] += weight
                end = count * self._hop
                tail, weight = sums[..., end:].copy(), weights[end:].copy()
                waiting = waiting[..., end:]
                shown = len(weights) if last else end
                ready = _divided(sums[..., :shown], weights[:shown])[..., head:]
                head = max(0, head - end)
                stop = samples - given if last else ready.shape[-1]
                given += min(stop, ready.shape[-1])
                if stop > 0 and ready.shape[-1]:
                    yield ready[..., :stop]

    def _frames(self, signals: Doubles, count: int) -> Doubles:
        views = np.lib.stride_tricks.sliding_window_view(signals, self._n_fft, axis=-1)
        frames = views[..., :: self._hop, :][..., :count, :]
        spectra = scipy.fft.rfft(frames * self._window, axis=-1)
        masked = self._masks(np.abs(spectra[1:])) * spectra[:1]
        return np.asarray(scipy.fft.irfft(masked, self._n_fft, axis=-1)) * self._window

    def _masks(self, magnitudes: Doubles) -> Doubles:
        if self._kind == "ibm":
            return np.asarray(
                np.arange(len(magnitudes))[:, None, None, None] == magnitudes.argmax(axis=0), float
            )
        powers = magnitudes if self._kind == "irm" else np.square(magnitudes)
        total = powers.sum(axis=0)
        return np.asarray(np.divide(powers, total, out=np.zeros_like(powers), where=total > 0))

    def _added(self, frames: Doubles) -> tuple[Doubles, Doubles]:
        """Overlap-add frames and squared windows, from the first frame's start to the last one's end."""
        count = frames.shape[-2]
        length = (count - 1) * self._hop + self._n_fft
        sums, weights = np.zeros((*frames.shape[:-2], max(length, 0))), np.zeros(length)
        square = np.square(self._window)
        for index in range(count):
            span = slice(index * self._hop, index * self._hop + self._n_fft)
            sums[..., span] += frames[..., index, :]
            weights[span] += square
        return sums, weights


def _with_end(blocks: Iterator[Doubles], n_fft: int, hop: int) -> Iterator[tuple[Doubles, bool]]:
    """Add zeros behind the signal: half a frame, and what makes the frames whole and covers all samples."""
    shape: tuple[int, ...] | None = None
    samples = 0
    for block in blocks:
        shape, samples = block.shape, samples + block.shape[-1]
        yield block, False
    if shape is not None:
        padded = samples + 2 * (n_fft // 2)
        yield np.zeros((*shape[:2], n_fft // 2 + -(padded - n_fft) % hop)), True


def _divided(sums: Doubles, weights: Doubles) -> Doubles:
    return np.asarray(np.divide(sums, weights, out=np.zeros_like(sums), where=weights > 1e-10))
