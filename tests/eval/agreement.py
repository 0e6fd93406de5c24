"""Our metrics beside the field's tools on randomised signals.

Used by `tests/eval/test_agreement.py` with a few cases and by `benchmarks/metric_agreement.py` with many.
A tool is imported when it is compared with; signals have random lengths, channels, colours, silences,
correlated sources, and estimates from nearly perfect to worse than nothing.
"""

import importlib
import importlib.metadata
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.signal

from stemwright.eval.bss_eval.images import METRICS, ArrayPairs, ImagesOptions, score_images
from stemwright.eval.bss_eval.sources import score_sources
from stemwright.eval.bss_eval.version3 import score_whole_images
from stemwright.eval.measures.contract import Track
from stemwright.eval.metrics import parse_metrics, score_track
from stemwright.eval.signal_metrics import SpectralDistance, log_mel_distance, si_sdr

Doubles = npt.NDArray[np.float64]
RATE = 8000


@dataclass(frozen=True, kw_only=True)
class Case:
    """References and estimates, shapes=(J, C, T)."""

    references: Doubles
    estimates: Doubles

    @property
    def pairs(self) -> ArrayPairs:
        names = tuple(f"s{index}" for index in range(len(self.references)))
        return ArrayPairs(names, self.references, self.estimates, RATE)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A metric of ours and the same of a tool.

    `ours` and `theirs` give values by column; the seed of the case serves both for what else is random.
    """

    metric: str
    tool: str
    module: str
    cases: Callable[[int, int], Iterator[Case]]
    ours: Callable[[Case, int], Mapping[str, Doubles]]
    theirs: Callable[[Any, Case, int], Mapping[str, Doubles]]

    def version(self) -> str:
        """Version of the tool's distribution."""
        return importlib.metadata.version(self.tool)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Largest difference of a column over so many cases; infinite if only one of the two had a value."""

    column: str
    cases: int
    values: int
    largest: float


def compare(comparison: Comparison, count: int, seed: int = 0) -> list[Agreement]:
    """Compare on random cases.

    Raises
    ------
    ImportError
        The tool is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tools: deprecations
        peer = importlib.import_module(comparison.module)
    largest: dict[str, float] = {}
    values: dict[str, int] = {}
    for index, case in enumerate(comparison.cases(seed, count)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tools: deprecations, silence
            theirs = comparison.theirs(peer, case, index)
        ours = comparison.ours(case, index)
        assert ours.keys() == theirs.keys()
        for column, mine in ours.items():
            other = np.asarray(theirs[column], np.float64)
            largest[column] = max(largest.get(column, 0.0), _difference(np.asarray(mine, np.float64), other))
            values[column] = values.get(column, 0) + int(np.isfinite(other).sum())
    return [Agreement(column=c, cases=count, values=values[c], largest=d) for c, d in largest.items()]


def _difference(mine: Doubles, other: Doubles) -> float:
    kind = np.isnan(mine) != np.isnan(other)
    endless = np.isinf(mine) | np.isinf(other)
    if kind.any() or (mine[endless] != other[endless]).any():
        return math.inf
    finite = np.isfinite(mine) & np.isfinite(other)
    return float(np.abs(mine[finite] - other[finite]).max(initial=0.0))


def signals(
    shapes: tuple[tuple[int, int], ...],
    seconds: tuple[float, float],
    *,
    silences: bool = False,
    bursts: bool = False,
) -> Callable[[int, int], Iterator[Case]]:
    """Return a generator of cases of such numbers of sources and channels, and such lengths."""

    def generate(seed: int, count: int) -> Iterator[Case]:
        for index in range(count):
            random = np.random.default_rng([seed, index])
            sources, channels = shapes[int(random.integers(len(shapes)))]
            length = int(RATE * random.uniform(*seconds))
            case = _case(random, (sources, channels, length), silences=silences)
            yield _burst(random, case) if bursts else case

    return generate


def _case(random: np.random.Generator, shape: tuple[int, int, int], *, silences: bool) -> Case:
    references = random.standard_normal(shape)
    pole = random.uniform(-0.6, 0.9)
    references = scipy.signal.lfilter([1], [1, -pole], references) * 10 ** random.uniform(-2, 0)
    if random.random() < 0.5:  # sources that have something in common
        mixing = np.eye(shape[0]) + random.uniform(0, 0.7) * random.random((shape[0], shape[0]))
        references = np.einsum("ij,jcn->icn", mixing, references)
    if shape[1] == 2 and random.random() < 0.5:  # nearly mono
        references[:, 1] = 0.9 * references[:, 0] + 0.1 * references[:, 1]
    level = 10 ** random.uniform(-3, 0.3)
    taps = np.concatenate([[1.0], level * random.standard_normal(int(random.integers(1, 60)))])
    estimates = scipy.signal.lfilter(taps, [1], references)
    estimates = estimates + level * (references.sum(axis=0) - references)
    estimates = estimates + level * references.std() * random.standard_normal(shape)
    if silences and random.random() < 0.5:
        _silence(random, references if random.random() < 0.5 else estimates)
    return Case(references=references, estimates=estimates)


def _burst(random: np.random.Generator, case: Case) -> Case:
    """Let all sound and pause in turn, as speech does."""
    time = np.arange(case.references.shape[-1]) / RATE
    envelope = np.sin(2 * np.pi * random.uniform(0.5, 2) * time) ** 2 > random.uniform(0, 0.5)
    return Case(references=case.references * envelope, estimates=case.estimates * envelope)


def _silence(random: np.random.Generator, part: Doubles) -> None:
    """Silence a span of a source, in stereo at times by channels that cancel."""
    source = int(random.integers(len(part)))
    start = int(random.integers(part.shape[-1]))
    span = np.s_[start : start + int(random.uniform(0.2, 2) * RATE)]
    if part.shape[1] == 2 and random.random() < 0.5:
        part[source, 1, span] = -part[source, 0, span]
    else:
        part[source, :, span] = 0


def _frame(seed: int) -> tuple[int, int]:
    """Window and hop of a case, in samples."""
    random = np.random.default_rng([1, seed])
    window = int(RATE * random.choice([0.5, 1.0, 1.5, 20.0]))
    return window, int(min(window, 2 * RATE) * random.choice([0.5, 1.0]))


def _images(case: Case, seed: int) -> Mapping[str, Doubles]:
    window, hop = _frame(seed)
    options = ImagesOptions(window_s=window / RATE, hop_s=hop / RATE, exact=True)
    return dict(zip(METRICS, score_images(case.pairs, options).values, strict=True))


def _museval_images(peer: Any, case: Case, seed: int) -> Mapping[str, Doubles]:
    window, hop = _frame(seed)
    return dict(zip(METRICS, peer.bss_eval(*_time_first(case), window=window, hop=hop)[:4], strict=True))


def _time_first(case: Case) -> tuple[Doubles, Doubles]:
    return case.references.transpose(0, 2, 1), case.estimates.transpose(0, 2, 1)


_V3 = ("SDR", "SIR", "SAR", "order")


def _sources(case: Case, _: int) -> Mapping[str, Doubles]:
    mono = case.references.shape[1] == 1
    parts = (case.references[:, 0], case.estimates[:, 0]) if mono else (case.references, case.estimates)
    scores = score_sources(*_shuffled(*parts))
    return dict(zip(_V3, (scores.sdr, scores.sir, scores.sar, np.array(scores.permutation)), strict=True))


def _shuffled(references: Doubles, estimates: Doubles) -> tuple[Doubles, Doubles]:
    return references, np.roll(estimates, 1, axis=0)


def _mir_eval_sources(peer: Any, case: Case, _: int) -> Mapping[str, Doubles]:
    both = _shuffled(case.references[:, 0], case.estimates[:, 0])
    return dict(zip(_V3, peer.bss_eval_sources(*both), strict=True))


def _fast_sources(peer: Any, case: Case, _: int) -> Mapping[str, Doubles]:
    both = _shuffled(case.references[:, 0], case.estimates[:, 0])
    return dict(zip(_V3, peer.bss_eval_sources(*both), strict=True))


def _museval_sources(peer: Any, case: Case, _: int) -> Mapping[str, Doubles]:
    both = (part.transpose(0, 2, 1) for part in _shuffled(case.references, case.estimates))
    found = peer.bss_eval_sources(*both)
    return dict(zip(_V3, (part[:, 0] for part in found), strict=True))


_IMAGES = ("SDR", "ISR", "SIR", "SAR", "order")


def _whole_images(case: Case, _: int) -> Mapping[str, Doubles]:
    scores = score_whole_images(*_shuffled(case.references, case.estimates))
    found = (scores.sdr, scores.isr, scores.sir, scores.sar, np.array(scores.permutation))
    return dict(zip(_IMAGES, found, strict=True))


def _mir_eval_images(peer: Any, case: Case, _: int) -> Mapping[str, Doubles]:
    both = (part.transpose(0, 2, 1) for part in _shuffled(case.references, case.estimates))
    return dict(zip(_IMAGES, peer.bss_eval_images(*both), strict=True))


def _si_sdr(case: Case, _: int) -> Mapping[str, Doubles]:
    rows = [(true, found) for true, found in zip(case.references, case.estimates, strict=True)]
    columns = {"SI-SDR": "kept", "SI-SDR_zero_mean": "removed"}
    whole = {c: np.array([si_sdr(*row, means=m) for row in rows]) for c, m in columns.items()}  # type: ignore[arg-type]
    stream = score_track(Track(pairs=case.pairs), parse_metrics(["si-sdr", "si-sdr-zero-mean"]))
    for column, values in whole.items():
        np.testing.assert_allclose([row.values[column] for row in stream.values()], values, rtol=1e-9)
    return whole


def _torchmetrics_si_sdr(peer: Any, case: Case, _: int) -> Mapping[str, Doubles]:
    torch = importlib.import_module("torch")
    both = [torch.from_numpy(part.copy()) for part in (case.estimates, case.references)]
    return {
        column: peer.scale_invariant_signal_distortion_ratio(*both, zero_mean=zero).numpy().mean(axis=-1)
        for column, zero in (("SI-SDR", False), ("SI-SDR_zero_mean", True))
    }


def _fast_si_sdr(peer: Any, case: Case, _: int) -> Mapping[str, Doubles]:
    def one(zero_mean: bool) -> Doubles:
        rows = zip(
            case.references.reshape(-1, 1, case.references.shape[-1]),
            case.estimates.reshape(-1, 1, case.references.shape[-1]),
            strict=True,
        )
        values = [peer.si_sdr(true, found, zero_mean=zero_mean)[0] for true, found in rows]
        return np.asarray(np.array(values).reshape(case.references.shape[:2]).mean(axis=-1))

    return {"SI-SDR": one(False), "SI-SDR_zero_mean": one(True)}


def _filtered_sdr(case: Case, _: int) -> Mapping[str, Doubles]:
    scores = score_sources(case.references[:1, 0], case.estimates[:1, 0], permute=False)
    return {"SDR": scores.sdr}


def _torchmetrics_sdr(peer: Any, case: Case, _: int) -> Mapping[str, Doubles]:
    torch = importlib.import_module("torch")
    both = [torch.from_numpy(part[:1, 0].copy()) for part in (case.estimates, case.references)]
    return {"SDR": peer.signal_distortion_ratio(*both).numpy()}


_LOUD = 1e5
"""Signals so loud that the floors of both ratios, which differ, are nothing."""


def _song_sdr(case: Case, _: int) -> Mapping[str, Doubles]:
    loud = Case(references=_LOUD * case.references, estimates=_LOUD * case.estimates)
    rows = score_track(Track(pairs=loud.pairs), parse_metrics(["sdr"]))
    return {"SDR": np.array([row.values["SDR_song"] for row in rows.values()])}


def _torchmetrics_snr(peer: Any, case: Case, _: int) -> Mapping[str, Doubles]:
    torch = importlib.import_module("torch")
    flat = (len(case.references), -1)
    both = [torch.from_numpy(_LOUD * part.reshape(flat)) for part in (case.estimates, case.references)]
    return {"SDR": peer.signal_noise_ratio(*both).numpy()}


def _spectral(case: Case, _: int) -> Mapping[str, Doubles]:
    true, found = case.references[0], case.estimates[0]
    row = score_track(Track(pairs=case.pairs), parse_metrics(["mrstft"]))["s0"]
    np.testing.assert_allclose(row.values["MR-STFT"], SpectralDistance()(true, found, RATE), rtol=1e-9)
    return {
        "A-weighted": np.array([row.values["MR-STFT"]]),
        "unweighted": np.array([SpectralDistance(weighting="none")(true, found, RATE)]),
    }


def _auraloss(peer: Any, case: Case, _: int) -> Mapping[str, Doubles]:
    torch = importlib.import_module("torch")
    sizes = [256, 512, 1024, 2048, 4096]
    both = [torch.from_numpy(part[0][:, None].copy()) for part in (case.estimates, case.references)]

    def one(weighted: bool) -> Doubles:
        loss = peer.MultiResolutionSTFTLoss(
            fft_sizes=sizes,
            hop_sizes=[size // 4 for size in sizes],
            win_lengths=sizes,
            sample_rate=RATE,
            perceptual_weighting=weighted,
        ).double()
        for resolution in loss.stft_losses:
            resolution.window = resolution.window.double()
        return np.array([np.mean([float(loss(e[None], t[None])) for e, t in zip(*both, strict=True)])])

    return {"A-weighted": one(True), "unweighted": one(False)}


def _log_mel(case: Case, _: int) -> Mapping[str, Doubles]:
    return {"LogMel": np.array([log_mel_distance(case.references[0], case.estimates[0], RATE)])}


def _librosa_log_mel(peer: Any, case: Case, _: int) -> Mapping[str, Doubles]:
    def levels(signal: Doubles) -> Doubles:
        mel = peer.melspectrogram(
            y=np.pad(signal, ((0, 0), (1024, 1024)), mode="reflect"), sr=RATE, power=1.0, center=False
        )
        return np.asarray(20 * np.log10(np.maximum(mel, 1e-5)))

    return {"LogMel": np.array([np.abs(levels(case.references[0]) - levels(case.estimates[0])).mean()])}


def _speech(*names: str) -> Callable[[Case, int], Mapping[str, Doubles]]:
    def ours(case: Case, _: int) -> Mapping[str, Doubles]:
        rows = score_track(Track(pairs=case.pairs), parse_metrics(names))
        columns = [column for metric in parse_metrics(names) for column in metric.columns]
        return {column: np.array([row.values[column] for row in rows.values()]) for column in columns}

    return ours


def _pystoi(peer: Any, case: Case, _: int) -> Mapping[str, Doubles]:
    rows = list(zip(case.references.mean(axis=1), case.estimates.mean(axis=1), strict=True))
    return {
        "STOI": np.array([peer.stoi(*row, RATE) for row in rows]),
        "ESTOI": np.array([peer.stoi(*row, RATE, extended=True) for row in rows]),
    }


def _pesq(peer: Any, case: Case, _: int) -> Mapping[str, Doubles]:
    rows = zip(case.references.mean(axis=1), case.estimates.mean(axis=1), strict=True)

    def one(row: tuple[Doubles, Doubles]) -> float:
        try:
            return float(peer.pesq(RATE, *row, "nb"))
        except peer.NoUtterancesError:
            return math.nan

    return {"PESQ_NB": np.array([one(row) for row in rows])}


_MONO = signals(((1, 1), (2, 1), (2, 1), (3, 1)), (0.8, 1.6))
_SEVERAL = signals(((2, 1), (2, 1), (3, 1)), (0.8, 1.6))
_MANY = signals(((1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (4, 2)), (0.8, 3.0))
_ONE = signals(((1, 1), (1, 2)), (0.8, 3.0))
_STEREO = signals(((1, 2), (1, 2), (2, 2)), (0.5, 1.0))
_COPIES = signals(((1, 1), (1, 2), (1, 2), (2, 1), (2, 1), (2, 1), (3, 1), (2, 2)), (0.5, 1.0))
_FRAMED = signals(((2, 1),) * 5 + ((3, 1),) * 2 + ((2, 2),) * 2 + ((3, 2),), (0.8, 4.0), silences=True)
_SPEECH = signals(((1, 1), (2, 1), (1, 2)), (1.5, 3.0), bursts=True)

COMPARISONS = (
    Comparison(
        metric="bsseval-exact",
        tool="museval",
        module="museval.metrics",
        cases=_FRAMED,
        ours=_images,
        theirs=_museval_images,
    ),
    Comparison(
        metric="version 3, sources, stereo",
        tool="museval",
        module="museval.metrics",
        cases=_STEREO,
        ours=_sources,
        theirs=_museval_sources,
    ),
    Comparison(
        metric="version 3, sources",
        tool="mir_eval",
        module="mir_eval.separation",
        cases=_MONO,
        ours=_sources,
        theirs=_mir_eval_sources,
    ),
    Comparison(
        metric="version 3, images",
        tool="mir_eval",
        module="mir_eval.separation",
        cases=_COPIES,
        ours=_whole_images,
        theirs=_mir_eval_images,
    ),
    Comparison(
        metric="version 3, sources",
        tool="fast_bss_eval",
        module="fast_bss_eval",
        cases=_SEVERAL,
        ours=_sources,
        theirs=_fast_sources,
    ),
    Comparison(
        metric="si-sdr",
        tool="fast_bss_eval",
        module="fast_bss_eval",
        cases=_MANY,
        ours=_si_sdr,
        theirs=_fast_si_sdr,
    ),
    Comparison(
        metric="si-sdr",
        tool="torchmetrics",
        module="torchmetrics.functional.audio",
        cases=_MANY,
        ours=_si_sdr,
        theirs=_torchmetrics_si_sdr,
    ),
    Comparison(
        metric="version 3, one source",
        tool="torchmetrics",
        module="torchmetrics.functional.audio",
        cases=_MONO,
        ours=_filtered_sdr,
        theirs=_torchmetrics_sdr,
    ),
    Comparison(
        metric="sdr (as SNR)",
        tool="torchmetrics",
        module="torchmetrics.functional.audio",
        cases=_MANY,
        ours=_song_sdr,
        theirs=_torchmetrics_snr,
    ),
    Comparison(
        metric="mrstft",
        tool="auraloss",
        module="auraloss.freq",
        cases=_ONE,
        ours=_spectral,
        theirs=_auraloss,
    ),
    Comparison(
        metric="logmel",
        tool="librosa",
        module="librosa.feature",
        cases=_MANY,
        ours=_log_mel,
        theirs=_librosa_log_mel,
    ),
    Comparison(
        metric="stoi, estoi",
        tool="pystoi",
        module="pystoi",
        cases=_SPEECH,
        ours=_speech("stoi", "estoi"),
        theirs=_pystoi,
    ),
    Comparison(
        metric="pesq-nb",
        tool="pesq",
        module="pesq",
        cases=_SPEECH,
        ours=_speech("pesq-nb"),
        theirs=_pesq,
    ),
)
