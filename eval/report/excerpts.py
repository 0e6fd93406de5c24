"""Short excerpts of references and kept estimates, around frames worth a listen."""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.encode import OutputFormat, check_format, open_writer
from stemwright.core.audio.source import AudioSource, open_source
from stemwright.core.errors import InputError, OutputError, StemwrightError
from stemwright.eval.datasets.contract import DataSet, OpenTrack
from stemwright.eval.datasets.opening import open_data
from stemwright.eval.datasets.sources import Named, SumSource
from stemwright.eval.report.choosing import noted_frames
from stemwright.eval.report.plots import frame_geometry
from stemwright.eval.report.tables import run_name
from stemwright.eval.rows import Run, TrackScores
from stemwright.eval.scoring import estimate_in_order
from stemwright.eval.stem_plans import plan_stems

EXCERPT_S = 5.0
_WITH_SPLIT = re.compile(r"(?P<data>.*) \((?P<split>[^()]*)\)", re.DOTALL)
_STEREO_KBPS, _LOW_KBPS, _LOW_HZ = 128, 64, 32_000
"""Of MP3; the standard's formats for rates below 32 kHz allow half as much."""


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """The same few seconds of a stem from everybody.

    Parameters
    ----------
    track, stem
        What it is of.
    run, column
        By whose frames, and which, the place was chosen.
    what
        Which frame it lies around, `median` or `worst`; empty where there are no frames.
    start_s
        Where it begins.
    value
        The number of that frame, NaN where there are none.
    sample_rate
        In Hz.
    gain
        What everything was multiplied by, so that nothing exceeds full scale; 1 where nothing did.
    signals
        `mixture`, `reference`, and of each run its estimate and the residual, estimate minus reference;
        shape=(channels, samples).
    """

    track: str
    stem: str
    run: str
    column: str
    what: str
    start_s: float
    value: float
    sample_rate: int
    gain: float
    signals: dict[str, FloatArray]


def open_references(runs: Sequence[Run], data: str | None = None, split: str | None = None) -> DataSet:
    """Find the true stems of runs.

    Parameters
    ----------
    runs
        Over the same data.
    data, split
        As `open_data` takes them; None for where the first run with kept estimates found them.

    Raises
    ------
    InputError
        No run kept its estimates, or the data are not there any more.
    """
    kept = [run for run in runs if any(row.estimates for row in run.tracks)]
    if not kept:
        raise InputError("no run kept its estimates", "run with --keep-estimates")
    if data is not None:
        return open_data(data, split)
    label = kept[0].facts.data
    try:
        return open_data(label)
    except StemwrightError as error:
        with_split = _WITH_SPLIT.fullmatch(label)
        if with_split is None:
            raise InputError(f"the references are not at {label}: {error.message}", "give --data") from error
    return open_data(with_split["data"], with_split["split"])


def excerpts(runs: Sequence[Run], data: DataSet, track: str, column: str) -> Iterator[Excerpt]:
    """Cut excerpts of a track, for each stem around the median and the worst frame of the first run.

    Parameters
    ----------
    runs
        Those without kept estimates of the track are passed over.
    data
        From `open_references`.
    track
        Its name.
    column
        Whose frames are looked at; without frames the middle of the track is taken.

    Raises
    ------
    InputError
        The track is not in the data, or audio cannot be read.
    """
    rows = {run_name(run): (run, row) for run in runs for row in run.tracks if row.track == track}
    kept = {name: (run, row) for name, (run, row) in rows.items() if row.estimates}
    found = next((one for one in data.tracks if one.name == track), None)
    if found is None or not kept:
        raise InputError(f"{track} is not in the data, or no estimates of it were kept", "give --data")
    opened = found.open()
    run, row = next(iter(kept.values()))
    for stem in row.stems:
        places = _places(run, row, stem, column)
        yield from _cut(opened, kept, stem, column, places)


def encoded(signal: FloatArray, sample_rate: int) -> tuple[bytes, str]:
    """Compress a signal for browsers; channels beyond two become their mean.

    Returns
    -------
    bytes, str
        MP3, or Vorbis where that has not this rate, and its media type.
    """
    if signal.shape[0] > 2:
        signal = signal.mean(axis=0, keepdims=True)
    kbps = _STEREO_KBPS if sample_rate >= _LOW_HZ else _LOW_KBPS
    fmt = OutputFormat(container="mp3", bitrate_kbps=kbps // (3 - signal.shape[0]))
    media_type = "audio/mpeg"
    try:
        check_format(fmt, sample_rate, signal.shape[0])
    except OutputError:
        fmt, media_type = OutputFormat(container="ogg", bitrate_kbps=kbps), "audio/ogg"
    with tempfile.TemporaryDirectory(prefix="stemwright-") as folder:
        path = Path(folder) / f"clip{fmt.extension}"
        with open_writer(path, fmt, sample_rate, signal.shape[0]) as writer:
            writer.write(np.ascontiguousarray(signal, np.float32))
            writer.commit()
        return path.read_bytes(), media_type


@dataclass(frozen=True, kw_only=True)
class _Place:
    what: str
    start_s: float
    value: float


def _places(run: Run, row: TrackScores, stem: str, column: str) -> list[_Place]:
    def start(middle: float) -> float:
        return max(0.0, min(middle, row.seconds - EXCERPT_S / 2) - EXCERPT_S / 2)

    window, hop = frame_geometry(run, column)
    values = row.stems[stem].frames.get(column, ())
    places = [
        _Place(what=what, start_s=start(index * hop + window / 2), value=values[index])
        for what, index in noted_frames(row.stems[stem], column).items()
    ]
    return places or [_Place(what="", start_s=start(row.seconds / 2), value=float("nan"))]


def _cut(
    opened: OpenTrack,
    kept: Mapping[str, tuple[Run, TrackScores]],
    stem: str,
    column: str,
    places: Sequence[_Place],
) -> Iterator[Excerpt]:
    rate = opened.mixture.info.sample_rate
    starts = [round(place.start_s * rate) for place in places]
    estimates: dict[str, list[FloatArray]] = {}
    reference = None
    for name, (run, row) in kept.items():
        if stem not in row.stems:
            continue
        files = _estimates(run, row)
        true, found = _sources(opened, files, row, stem)
        reference = reference or _read(true, starts, rate)
        estimates[name] = _read(found, starts, rate)
    if reference is None:
        return
    mixture = _read(opened.mixture, starts, rate)
    for index, place in enumerate(places):
        signals = {"mixture": mixture[index], "reference": reference[index]}
        for name, signal in estimates.items():
            signals[f"{name}: estimate"] = signal[index]
            length = min(signal[index].shape[1], reference[index].shape[1])
            signals[f"{name}: residual"] = signal[index][:, :length] - reference[index][:, :length]
        peak = max(float(np.abs(signal).max(initial=0)) for signal in signals.values())
        gain = 1.0 if peak <= 1 else 1 / peak
        yield Excerpt(
            track=next(iter(kept.values()))[1].track,
            stem=stem,
            run=next(iter(kept)),
            column=column,
            what=place.what,
            start_s=place.start_s,
            value=place.value,
            sample_rate=rate,
            gain=gain,
            signals={name: np.asarray(signal * gain, np.float32) for name, signal in signals.items()},
        )


def _estimates(run: Run, row: TrackScores) -> dict[str, Path]:
    """Return the kept files by the names of their stems; a run from elsewhere may not point out of itself."""
    folder = (run.path / (row.estimates or "")).resolve()
    if not folder.is_relative_to(run.path.resolve()):
        raise InputError(f"{run.path} keeps the estimates of {row.track} outside of itself", "run it again")
    files = {file.stem: file for file in sorted(folder.glob("*.wav"))}
    if not files:
        raise InputError(f"{folder} has no estimates any more", "run it again with --keep-estimates")
    return files


def _sources(
    opened: OpenTrack, files: Mapping[str, Path], row: TrackScores, stem: str
) -> tuple[AudioSource, AudioSource]:
    """Return what was scored against what."""
    chosen = estimate_in_order(row, stem)
    if chosen is not None and chosen in files:
        return opened.references[stem].source, open_source(files[chosen])
    plan = plan_stems(tuple(opened.references), tuple(files))
    scored = next((one for one in plan.stems if one.name == stem), None)
    if scored is None:
        raise InputError(f"{row.track} has no reference of {stem}", "give --data as it was run")
    true = [opened.references[name] for name in scored.references]
    found = [Named(str(files[name]), open_source(files[name])) for name in scored.estimates]
    return _sum(true), _sum(found)


def _sum(sources: Sequence[Named]) -> AudioSource:
    return sources[0].source if len(sources) == 1 else SumSource(tuple(sources))


def _read(source: AudioSource, starts: Sequence[int], rate: int) -> list[FloatArray]:
    """Read all excerpts in one pass that ends with the last of them."""
    if source.info.sample_rate != rate:
        raise InputError(
            f"an estimate has {source.info.sample_rate} Hz, the mixture {rate} Hz",
            "give --data as it was run",
        )
    count = round(EXCERPT_S * rate)
    parts: list[list[FloatArray]] = [[] for _ in starts]
    position = 0
    for block in source.blocks():
        end = position + block.shape[1]
        for start, part in zip(starts, parts, strict=True):
            if start < end and position < start + count:
                part.append(block[:, max(0, start - position) : start + count - position].copy())
        position = end
        if position >= max(starts) + count:
            break
    if not all(parts):
        raise InputError("an excerpt lies beyond the end of its audio", "give --data as it was run")
    return [np.concatenate(part, axis=1) for part in parts]
