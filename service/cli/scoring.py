"""What `stemwright eval score` does."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stemwright.core.audio.source import AudioSource, open_source
from stemwright.core.audio.suffixes import AUDIO_SUFFIXES
from stemwright.core.errors import InputError, OptionError
from stemwright.eval.measures.contract import Metric, ScoreOptions, Track
from stemwright.eval.metrics import DEFAULT_METRICS, parse_metrics, score_track
from stemwright.eval.museval_files import rows_as_museval
from stemwright.eval.rows import TrackScores, row_json
from stemwright.eval.stem_folders import open_stem_folders
from stemwright.service.cli.score_table import print_scores
from stemwright.service.staging import Staging, refuse_existing

_EXACT = {"bsseval": "bsseval-exact"}


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """What is asked for: see the options of the command."""

    reference: Path
    estimate: Path
    stems: tuple[str, ...] | None
    metrics: tuple[str, ...]
    mixture: Path | None
    exact: bool
    out: Path | None
    overwrite: bool
    as_json: bool
    options: ScoreOptions


def score(request: ScoreRequest) -> None:
    """Score two folders of stems and print the scores."""
    metrics = _metrics(request)
    if request.out is not None and not request.overwrite:
        refuse_existing(request.out.parent, [PurePosixPath(request.out.name)])
    pairs = open_stem_folders(request.reference, request.estimate, request.stems)
    mixture = _mixture(request, pairs.sample_rate)
    scores = score_track(Track(pairs=pairs, mixture=mixture), metrics, request.options)
    row = TrackScores(
        track=request.reference.resolve().name,
        seconds=pairs.samples / pairs.sample_rate,
        sample_rate=pairs.sample_rate,
        channels=pairs.channels,
        stems=scores,
        notes=pairs.notes,
    )
    if request.out is not None:
        _write(request.out, rows_as_museval(row, request.options), overwrite=request.overwrite)
    if request.as_json:
        sys.stdout.write(row_json(row) + "\n")
    else:
        print_scores(row, metrics, request.options)


def _metrics(request: ScoreRequest) -> tuple[Metric, ...]:
    names = request.metrics or DEFAULT_METRICS
    metrics = parse_metrics([_EXACT.get(name, name) if request.exact else name for name in names])
    images = any(metric.framewise for metric in metrics)
    if request.exact and not images:
        raise OptionError("--exact is for the metric bsseval, which is not asked for", "leave --exact out")
    if request.out is not None and not images:
        raise OptionError(
            f"{request.out.name} would hold scores of bsseval, which are not asked for",
            "add --metric bsseval, or use --json for other metrics",
        )
    return metrics


def _mixture(request: ScoreRequest, sample_rate: int) -> AudioSource | None:
    """Open the mixture: the file given, or `mixture.*` beside the references."""
    path = request.mixture
    if path is None:
        found = sorted(
            file
            for file in request.reference.glob("mixture.*")
            if file.suffix.lower() in AUDIO_SUFFIXES and file.is_file()
        )
        if len(found) > 1:
            raise InputError(f"{request.reference} has two mixtures", "remove one, or give --mixture FILE")
        if not found:
            return None
        (path,) = found
    source = open_source(path)
    if source.info.sample_rate != sample_rate:
        raise InputError(
            f"{path} has {source.info.sample_rate} Hz, the stems {sample_rate} Hz",
            "give the mixture at the stems' rate",
        )
    return source


def _write(out: Path, data: object, *, overwrite: bool) -> None:
    file = PurePosixPath(out.name)
    with Staging(out.parent, out.stem) as staging:
        staging.path(file).write_text(json.dumps(data, indent=2), encoding="utf-8")
        staging.publish([file], replace=overwrite)
