"""Speech metrics by their packages: PESQ, STOI, ESTOI and DNSMOS, of each stem's channels' mean.

PESQ takes 8 or 16 kHz and DNSMOS 16 kHz: other rates are resampled for them; STOI's package resamples by
itself. A recording of up to a minute is scored whole, a longer one in equal pieces of at most a minute, by
the mean over the pieces that have a value; memory does not grow with its length.

References
----------
ITU-T P.862, P.862.2; C. Taal et al., "An algorithm for intelligibility prediction of time-frequency
weighted noisy speech", IEEE TASLP 2011 (STOI); J. Jensen, C. Taal, "An algorithm for predicting the
intelligibility of speech masked by modulated noise maskers", IEEE TASLP 2016 (ESTOI); C. Reddy et al.,
"DNSMOS P.835", ICASSP 2022.
"""

import importlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from types import ModuleType

import numpy as np
import numpy.typing as npt
import soxr

from stemwright.core.errors import OptionError
from stemwright.eval.measures.contract import Metric, ScoreOptions, Track
from stemwright.eval.measures.reading import pair_blocks
from stemwright.eval.rows import StemScores

PIECE_S = 60.0
"""Longest piece that is scored at a time (chosen here)."""
WIDE_HZ, NARROW_HZ = 16_000, 8_000
DNSMOS_S = 9.01
"""What DNSMOS' network hears at a time."""
STOI_FRAMES = 30
"""Frames of speech that STOI needs: its package gives 1e-5 and a warning for less."""

Signal = npt.NDArray[np.float64]


class _NoScoreError(Exception):
    """The metric has no value for a piece; the message says why."""


@dataclass
class _Tally:
    """Values of a stem's pieces by column, and what there is to say of them."""

    values: dict[str, list[float]]
    notes: dict[str, None] = field(default_factory=dict)


def _score(track: Track, metrics: tuple[Metric, ...], options: ScoreOptions) -> dict[str, StemScores]:
    for metric in metrics:
        _PACKAGES[metric.name]()  # what is not installed is told before anything is read
    rate = track.pairs.sample_rate
    pieces = max(1, ceil(track.pairs.samples / (PIECE_S * rate)))
    columns = [column for metric in metrics for column in metric.columns]
    tallies = [_Tally({column: [] for column in columns}) for _ in track.pairs.names]
    for references, estimates in _pieces(track, pieces):
        for tally, reference, estimate in zip(tallies, references, estimates, strict=True):
            for metric in metrics:
                _add(tally, metric, reference, estimate, rate)
    length = (
        f"the mean over {pieces} pieces of {track.pairs.samples / rate / pieces:.0f} s" if pieces > 1 else ""
    )
    return {
        name: StemScores(
            values={c: float(np.mean(v)) if v else float("nan") for c, v in tally.values.items()},
            notes=(*tally.notes, *((f"{', '.join(columns)}: {length}",) if length else ())),
        )
        for name, tally in zip(track.pairs.names, tallies, strict=True)
    }


def _pieces(track: Track, count: int) -> Iterator[tuple[Signal, Signal]]:
    """Yield equal pieces of the channels' means, shapes=(J, n)."""
    held: tuple[list[Signal], list[Signal]] = [], []
    ends = [track.pairs.samples * (index + 1) // count for index in range(count)]
    start = 0
    for block in pair_blocks(track):
        means = [part.mean(axis=1) for part in block]
        size = means[0].shape[1]
        while ends and ends[0] <= start + size:
            cut = ends.pop(0) - start
            for kept, mean in zip(held, means, strict=True):
                kept.append(mean[:, :cut])
            yield np.concatenate(held[0], axis=1), np.concatenate(held[1], axis=1)
            held = [], []
            means, start, size = [mean[:, cut:] for mean in means], start + cut, size - cut
        for kept, mean in zip(held, means, strict=True):
            kept.append(mean)
        start += size


def _add(tally: _Tally, metric: Metric, reference: Signal, estimate: Signal, rate: int) -> None:
    try:
        if not reference.any() or not estimate.any():
            raise _NoScoreError(f"the {'estimate' if reference.any() else 'reference'} is silent")
        found, said = _SCORERS[metric.name](reference, estimate, rate)
    except _NoScoreError as error:
        tally.notes[f"{metric.name}: {error}"] = None
        return
    for column, value in zip(metric.columns, found, strict=True):
        tally.values[column].append(value)
    for note in said:
        tally.notes[f"{metric.name}: {note}"] = None


Found = tuple[Sequence[float], Sequence[str]]


def _pesq(reference: Signal, estimate: Signal, rate: int, mode: str) -> Found:
    package = _package("pesq", "pesq")
    fits = (WIDE_HZ,) if mode == "wb" else (NARROW_HZ, WIDE_HZ)
    used = rate if rate in fits else WIDE_HZ
    both = (_resampled(signal, rate, used) for signal in (reference, estimate))
    try:
        value = package.pesq(used, *both, mode)
    except (package.PesqError, ValueError) as error:
        raise _NoScoreError(f"the package says: {_text(error)}") from error
    return (float(value),), _resampling(rate, used)


def _stoi(reference: Signal, estimate: Signal, rate: int, *, extended: bool) -> Found:
    package = _package("pystoi", "pystoi")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            value = package.stoi(reference, estimate, rate, extended=extended)
        except RuntimeWarning as warning:
            raise _NoScoreError(
                f"less than {STOI_FRAMES} frames of speech are left without silence"
            ) from warning
    return (float(value),), ()


def _dnsmos(reference: Signal, estimate: Signal, rate: int) -> Found:
    package = _package("speechmos.dnsmos", "speechmos")
    signal = _resampled(estimate, rate, WIDE_HZ)
    notes = list(_resampling(rate, WIDE_HZ))
    if len(signal) < DNSMOS_S * WIDE_HZ:
        notes.append(f"shorter than {DNSMOS_S} s, so the package repeats it")
    peak = np.abs(signal).max()
    if peak > 1:
        notes.append(f"lowered by {20 * np.log10(peak):.1f} dB to fit full scale")
        signal = signal / peak
    found = package.run(signal.astype(np.float32), WIDE_HZ)
    return [float(found[f"{part}_mos"]) for part in ("ovrl", "sig", "bak", "p808")], notes


def _package(module: str, distribution: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise OptionError(
            f"{distribution} is not installed, or not whole: {error}", "pip install 'stemwright[eval]'"
        ) from error


def _resampled(signal: Signal, rate: int, wanted: int) -> Signal:
    return signal if rate == wanted else np.asarray(soxr.resample(signal, rate, wanted, "VHQ"))


def _resampling(rate: int, used: int) -> tuple[str, ...]:
    return () if rate == used else (f"resampled from {rate} to {used} Hz",)


def _text(error: Exception) -> str:
    first = error.args[0] if error.args else error
    return first.decode() if isinstance(first, bytes) else str(first)


_SCORERS: dict[str, Callable[[Signal, Signal, int], Found]] = {
    "pesq": lambda r, e, rate: _pesq(r, e, rate, "wb"),
    "pesq-nb": lambda r, e, rate: _pesq(r, e, rate, "nb"),
    "stoi": lambda r, e, rate: _stoi(r, e, rate, extended=False),
    "estoi": lambda r, e, rate: _stoi(r, e, rate, extended=True),
    "dnsmos": _dnsmos,
}
_PACKAGES: dict[str, Callable[[], ModuleType]] = {
    "pesq": lambda: _package("pesq", "pesq"),
    "pesq-nb": lambda: _package("pesq", "pesq"),
    "stoi": lambda: _package("pystoi", "pystoi"),
    "estoi": lambda: _package("pystoi", "pystoi"),
    "dnsmos": lambda: _package("speechmos.dnsmos", "speechmos"),
}


def _metric(name: str, columns: tuple[str, ...], meaning: str) -> Metric:
    return Metric(name=name, columns=columns, better="higher", unit="", meaning=meaning, engine=_score)


SPEECH_METRICS = (
    _metric("pesq", ("PESQ",), "wide-band PESQ of speech (P.862.2, 16 kHz), about 1 to 4.64"),
    _metric("pesq-nb", ("PESQ_NB",), "narrow-band PESQ of speech (P.862, 8 or 16 kHz), about 1 to 4.55"),
    _metric("stoi", ("STOI",), "short-time objective intelligibility of speech, 0 to 1"),
    _metric("estoi", ("ESTOI",), "its extended form"),
    _metric(
        "dnsmos",
        ("DNSMOS_OVRL", "DNSMOS_SIG", "DNSMOS_BAK", "DNSMOS_P808"),
        "opinions of speech as a network predicts them from the estimate alone (16 kHz), 1 to 5",
    ),
)
