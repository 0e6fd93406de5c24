"""The scores of a batch of MUSDB, beside its stems: OUT/scores is a run as `eval run` writes it."""

import logging
import shutil
from pathlib import Path, PurePosixPath

from stemwright.core.audio.source import open_source
from stemwright.core.closing import Closing
from stemwright.core.errors import OptionError, StemwrightError
from stemwright.core.musdb import MIXTURE, STEMS
from stemwright.eval.datasets.contract import DataTrack, Part
from stemwright.eval.datasets.music import stem_mp4_track
from stemwright.eval.datasets.sources import Named
from stemwright.eval.measures.contract import ScoreOptions
from stemwright.eval.metrics import DEFAULT_METRICS, parse_metrics
from stemwright.eval.rows import FailedTrack, RunFacts, TrackScores
from stemwright.eval.run_log import RunLog
from stemwright.eval.running import library_versions, metric_facts
from stemwright.eval.scoring import score_estimates
from stemwright.service.batches import BatchPlan, Outcome
from stemwright.service.cli.batch_wishes import ScoreWish
from stemwright.service.cli.score_table import print_run
from stemwright.service.folders import Track

_LOG = logging.getLogger(__name__)
SCORES_FOLDER = "scores"
# As `eval run --data` calls them, so that reports find the references again.
_DATA = {"musdb18": "musdb", "musdb18-hq": "musdb-hq"}


class BatchScores(Closing):
    """Scores the tracks of a batch when their stems are there; a context manager.

    Parameters
    ----------
    plan
        The batch.
    wish
        What is asked.

    Raises
    ------
    OptionError
        The recordings have no true stems, the stems are not floats, a metric is not known, or OUT/scores
        holds scores by other metrics or of another model.
    OutputError, ResourceError
        OUT/scores cannot be written.
    """

    def __init__(self, plan: BatchPlan, wish: ScoreWish) -> None:
        kind = plan.collection.kind
        if kind == "plain":
            raise OptionError(
                f"{wish.folder} is not MUSDB, so there is nothing to score against",
                "leave --evaluate out; `stemwright eval run --data folder:PATH` scores folders of stems",
            )
        if plan.options.fmt.bit_depth != "32f":
            raise OptionError(
                "stems of 16 or 24 bits may have been turned down or clipped", "leave --bit-depth out"
            )
        self._plan = plan
        self._options = ScoreOptions()
        self._metrics = parse_metrics(wish.metrics or DEFAULT_METRICS)
        folder = plan.out / SCORES_FOLDER
        if wish.anew:
            shutil.rmtree(folder, ignore_errors=True)
        facts = RunFacts(
            model=wish.model,
            data=f"{_DATA[kind]}:{wish.folder.resolve()}",
            metrics=tuple(metric_facts(metric, self._options) for metric in self._metrics),
            tracks=tuple(_name(track) for track in plan.collection.tracks),
            versions=library_versions(),
        )
        self._log = RunLog(folder, facts)

    def close(self) -> None:
        """Let go of the scores' folder."""
        self._log.close()

    def score(self, outcome: Outcome) -> StemwrightError | None:
        """Score a track whose stems are there; return what went wrong.

        Raises
        ------
        StemwrightError
            The scores cannot be written.
        """
        if outcome.error is not None or outcome.row is None:
            return None
        if outcome.word == "skipped" and self._log.done(_name(outcome.track)) is not None:
            return None
        try:
            self._log.append(self._scores(outcome))
        except StemwrightError as error:
            _LOG.debug("%s could not be scored", _name(outcome.track), exc_info=error)
            failed = FailedTrack(
                track=_name(outcome.track), code=error.code, message=error.message, remedy=error.remedy
            )
            self._log.append(failed)
            return error
        return None

    def show(self) -> None:
        """Print the medians."""
        rows = [row for row in self._log.rows.values() if isinstance(row, TrackScores)]
        if rows:
            print_run(rows, self._metrics, self._options)

    def _scores(self, outcome: Outcome) -> TrackScores:
        track = outcome.track
        files = [PurePosixPath(file.path) for file in outcome.row.files] if outcome.row is not None else []
        estimates = {
            path.stem: Named(str(path), open_source(self._plan.out / path, name=str(path))) for path in files
        }
        opened = true_stems(_name(track), track.source).open()
        return score_estimates(_name(track), opened, estimates, self._metrics, self._options)


def true_stems(name: str, source: Path) -> DataTrack:
    """Return a track of MUSDB by the file of its mixture."""
    if source.name != MIXTURE:
        return stem_mp4_track(name, source)
    stems = {stem: Part(path=source.parent / f"{stem}.wav") for stem in STEMS}
    return DataTrack(name=name, stems=stems, mixture=Part(path=source))


def _name(track: Track) -> str:
    """Call a track as `eval run` does."""
    return track.target.name
