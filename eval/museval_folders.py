"""Folders of museval's JSON files, of any tool, read as a run."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from stemwright.core.errors import InputError
from stemwright.eval.rows import MetricFacts, Run, RunFacts, StemScores, TrackScores

_SUBSETS = ("train", "test")


def read_museval_folder(path: Path) -> Run:
    """Read all museval JSON files of a folder, at any depth.

    A track is called as its file, without the ending; folders `train` and `test` stand for subsets and are
    left out. Numbers of tracks are medians over the frames that have a value, as museval's own.

    Raises
    ------
    InputError
        No folder, no such files in it, one that is none of museval's, or two of the same track.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a folder", "give a folder of museval's JSON files")
    files = sorted(file for file in path.rglob("*.json") if file.is_file())
    if not files:
        raise InputError(f"{path} has no JSON files", "give a folder of museval's JSON files")
    rows: dict[str, TrackScores] = {}
    for file in files:
        name = _track_name(file.relative_to(path))
        if name in rows:
            raise InputError(f"{path} has two files of the track {name}", "give each subset alone")
        rows[name] = _read(file, name)
    columns = dict.fromkeys(c for row in rows.values() for stem in row.stems.values() for c in stem.values)
    facts = RunFacts(
        model=path.resolve().name,
        data="museval",
        metrics=(MetricFacts(name="museval", columns=tuple(columns), options=_geometry(files[0])),),
        tracks=tuple(rows),
    )
    return Run(path=path, facts=facts, tracks=tuple(rows.values()))


def _track_name(relative: Path) -> str:
    parts = relative.with_suffix("").parts
    return "/".join(parts[1:] if len(parts) > 1 and parts[0] in _SUBSETS else parts)


def _load(file: Path) -> list[dict[str, Any]]:
    try:
        targets: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["targets"]
        return targets
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{file} is not a JSON file of museval", "remove it from the folder") from error


def _read(file: Path, name: str) -> TrackScores:
    targets = _load(file)
    try:
        stems = {target["name"]: _stem(target["frames"]) for target in targets}
        ends = [frame["time"] + frame["duration"] for target in targets for frame in target["frames"][-1:]]
    except (TypeError, KeyError) as error:
        raise InputError(f"{file} is not a JSON file of museval", "remove it from the folder") from error
    return TrackScores(
        track=name, seconds=float(max(ends, default=0)), sample_rate=0, channels=0, stems=stems, model=""
    )


def _stem(frames: list[dict[str, Any]]) -> StemScores:
    columns = dict.fromkeys(column for frame in frames for column in frame["metrics"])
    values = {c: tuple(_value(frame["metrics"].get(c)) for frame in frames) for c in columns}
    return StemScores(values={c: _median(row) for c, row in values.items()}, frames=values)


def _value(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _median(row: tuple[float, ...]) -> float:
    finite = [value for value in row if math.isfinite(value)]
    return float(np.median(finite)) if finite else math.nan


def _geometry(file: Path) -> dict[str, Any]:
    """Return the window and the hop, from the first two frames."""
    for target in _load(file):
        frames = target.get("frames") or []
        if len(frames) > 1:
            return {"window_s": frames[0]["duration"], "hop_s": frames[1]["time"] - frames[0]["time"]}
    return {"window_s": 1.0, "hop_s": 1.0}
