"""What a score is, and how the scores of a run are stored and read.

A run is a folder::

    run.json        what was run: model, data, metrics with their options, versions, terms of embedders
    tracks.jsonl    one line of strict JSON for each track; the last line of a track counts

JSON has no NaN and no infinity: such values are stored as null, and `notes` say why. A track that failed has
a line with `error` instead of scores; it is tried again when the run goes on.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stemwright.core.appending import whole_lines
from stemwright.core.errors import InputError

RUN_FILE = "run.json"
TRACKS_FILE = "tracks.jsonl"
RUN_SCHEMA = 1
_NO_RUN_REMEDY = "give the folder that `stemwright eval run -o` wrote"


@dataclass(frozen=True, kw_only=True)
class StemScores:
    """Scores of one stem of one track.

    Parameters
    ----------
    values
        Column of a metric -> the track's number (of framewise metrics the median over the frames that have
        one); NaN where there is none.
    frames
        Column -> value of each frame, of framewise metrics only.
    notes
        Why a value is NaN or was infinite; one sentence each, beginning with the column or the metric.
    """

    values: dict[str, float]
    frames: dict[str, tuple[float, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TrackScores:
    """Scores of one track: a row of a run.

    Parameters
    ----------
    track
        Its name in the data set; unique there.
    seconds, sample_rate, channels
        Of the audio that was scored.
    stems
        Scores by the name of the stem.
    model
        What made the estimates; empty where nobody knows.
    separation_s
        Seconds that the separation took; None for estimates that were there.
    estimates
        Where the estimates were kept, relative to the run's folder; None if they were not.
    notes
        What else there is to say, such as stems that were left out or lengths that were trimmed.
    """

    track: str
    seconds: float
    sample_rate: int
    channels: int
    stems: dict[str, StemScores]
    model: str = ""
    separation_s: float | None = None
    estimates: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FailedTrack:
    """A track that could not be scored, with the cause and what to do about it."""

    track: str
    code: str
    message: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class MetricFacts:
    """A metric of a run.

    Parameters
    ----------
    name
        As it was asked for.
    columns
        Its columns in `StemScores.values`.
    options
        What it was computed with; `window_s` and `hop_s` for framewise ones.
    """

    name: str
    columns: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a run is of: the contents of run.json.

    Parameters
    ----------
    model
        Name of the model, of the oracle or of the folder of estimates; shown in tables.
    data
        As asked for: `musdb:PATH`.
    metrics
        The metrics.
    tracks
        Names of all tracks that the run is to score, in the data set's order.
    options
        What the estimates were made with: hash of the model, overlap, transform of an oracle ...
    versions
        Of this package and of the libraries that computed scores.
    notes
        Terms of embedding models, stems left out, and the like.
    """

    model: str
    data: str
    metrics: tuple[MetricFacts, ...]
    tracks: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as read.

    Parameters
    ----------
    path
        Its folder.
    facts
        What it is of.
    tracks
        Rows in the data set's order; tracks that are not done are missing.
    failed
        Tracks that failed.
    """

    path: Path
    facts: RunFacts
    tracks: tuple[TrackScores, ...]
    failed: tuple[FailedTrack, ...] = ()

    @property
    def stems(self) -> tuple[str, ...]:
        """Names of all stems, in the order in which they appear."""
        return tuple(dict.fromkeys(name for row in self.tracks for name in row.stems))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of all metrics, in the order in which they appear."""
        stems = (stem for row in self.tracks for stem in row.stems.values())
        return tuple(dict.fromkeys(column for stem in stems for column in stem.values))


def row_json(row: TrackScores | FailedTrack) -> str:
    """Return a row as a line of strict JSON, without its end."""
    data: dict[str, Any] = {"schema": RUN_SCHEMA, **asdict(row)}
    if isinstance(row, TrackScores):
        data["stems"] = {name: _stem_data(stem) for name, stem in row.stems.items()}
    else:
        data = {"schema": RUN_SCHEMA, "track": data.pop("track"), "error": data}
        del data["error"]["schema"]
    return json.dumps(data, allow_nan=False)


def parse_row(line: str | bytes) -> TrackScores | FailedTrack:
    """Read a row.

    Raises
    ------
    ValueError
        It is no row, or one of a newer release.
    """
    try:
        data = json.loads(line)
        if data.pop("schema") != RUN_SCHEMA:
            raise ValueError("another schema")
        if "error" in data:
            return FailedTrack(track=data["track"], **data["error"])
        data["stems"] = {name: _parse_stem(stem) for name, stem in data["stems"].items()}
        data["notes"] = tuple(data["notes"])
        return TrackScores(**data)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"no row of a run: {error}") from error


def facts_json(facts: RunFacts) -> str:
    """Return the text of run.json."""
    return json.dumps({"schema": RUN_SCHEMA, **asdict(facts)}, indent=2, allow_nan=False) + "\n"


def parse_facts(text: str) -> RunFacts:
    """Read run.json.

    Raises
    ------
    ValueError
        It is none, or one of a newer release.
    """
    try:
        data = json.loads(text)
        if data.pop("schema") != RUN_SCHEMA:
            raise ValueError("another schema")
        data["metrics"] = tuple(
            MetricFacts(**{**metric, "columns": tuple(metric["columns"])}) for metric in data["metrics"]
        )
        for name in ("tracks", "notes"):
            data[name] = tuple(data[name])
        return RunFacts(**data)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"no facts of a run: {error}") from error


def read_run(path: Path) -> Run:
    """Read the folder of a run, also of one that is not finished.

    Raises
    ------
    InputError
        It is none, or it is damaged.
    """
    try:
        facts = parse_facts((path / RUN_FILE).read_text(encoding="utf-8"))
        rows = read_rows(path / TRACKS_FILE)
    except FileNotFoundError as error:
        raise InputError(f"{path} is no run: it has no {Path(error.filename).name}", _NO_RUN_REMEDY) from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}", "") from error
    except ValueError as error:
        raise InputError(f"{path / RUN_FILE} is not of a run of this release: {error}", "") from error
    order = {name: index for index, name in enumerate(facts.tracks)}
    ordered = sorted(rows.values(), key=lambda row: order.get(row.track, len(order)))
    return Run(
        path=path,
        facts=facts,
        tracks=tuple(row for row in ordered if isinstance(row, TrackScores)),
        failed=tuple(row for row in ordered if isinstance(row, FailedTrack)),
    )


def read_rows(path: Path) -> dict[str, TrackScores | FailedTrack]:
    """Read the last row of every track; a line that a kill tore is passed over.

    Raises
    ------
    InputError
        A whole line is no row.
    OSError
        The file cannot be read.
    """
    rows: dict[str, TrackScores | FailedTrack] = {}
    for number, line in enumerate(whole_lines(path), 1):
        try:
            row = parse_row(line)
        except ValueError as error:
            raise InputError(
                f"{path}, line {number} is no row of this release", "remove that line, or the file"
            ) from error
        rows[row.track] = row
    return rows


def _stem_data(stem: StemScores) -> dict[str, Any]:
    infinite = [column for column, value in stem.values.items() if math.isinf(value)]
    notes = tuple(f"{column}: {_word(stem.values[column])}, stored as null" for column in infinite)
    return {
        "values": {column: _finite(value) for column, value in stem.values.items()},
        "frames": {column: [_finite(value) for value in row] for column, row in stem.frames.items()},
        "notes": [*stem.notes, *notes],
    }


def _parse_stem(data: Mapping[str, Any]) -> StemScores:
    return StemScores(
        values={column: _number(value) for column, value in data["values"].items()},
        frames={column: tuple(_number(value) for value in row) for column, row in data["frames"].items()},
        notes=tuple(data["notes"]),
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _word(value: float) -> str:
    return "infinite" if value > 0 else "minus infinite"
