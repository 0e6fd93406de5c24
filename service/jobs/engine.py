"""The one module that runs DBOS workflows: a job's stages as durable steps of one workflow.

A step's result is written once it is finished; whoever takes a job over goes on behind the last one that
was. DBOS refuses what an execution that lost its job wants to write, and the ledger does the same for ours.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from stemwright.core.errors import InternalError, StemwrightError, UserError
from stemwright.service.errors import BusyError
from stemwright.service.jobs.bench import Bench
from stemwright.service.jobs.database import Database
from stemwright.service.jobs.ledger import Attempt, Ledger, SupersededError
from stemwright.service.jobs.model import Stage
from stemwright.service.jobs.stages import Workshop
from stemwright.service.jobs.truth import APPLICATION, STREAM, VERSION, WORKFLOW
from stemwright.service.jobs.watching import watched
from stemwright.service.logs import adopted_logger, set_job_id

if TYPE_CHECKING:
    from dbos import DBOSClient

T = TypeVar("T")
_LOG = logging.getLogger(__name__)

BEAT_S = 0.5
_POOL_SIZE = 4
# Where each stage ends in the fraction of the whole job.
_ENDS: dict[Stage, float] = {"probe": 0.01, "separate": 0.99, "evaluate": 0.99, "publish": 1.0}
_SEPARATED_BEFORE_SCORES = 0.8


class JobFailedError(Exception):
    """Ends the workflow of a job whose failure is written already. Text: the code of the failure."""


class JobEngine:
    """Takes jobs from one queue and does them, one at a time.

    Parameters
    ----------
    database
        Where jobs and workflows are.
    ledger
        Writes the jobs' rows.
    workshop
        Does the stages.
    executor_id
        This process; never one that was used before.
    queue
        Where jobs are taken from.
    max_attempts
        Executions that may end with their worker's death before the job fails.
    """

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        workshop: Workshop,
        *,
        executor_id: str,
        queue: str,
        max_attempts: int,
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._workshop = workshop
        self._executor_id = executor_id
        self._queue = queue
        self._max_attempts = max_attempts
        self._lock = threading.Lock()
        self._current: Attempt | None = None
        self._abandoned = threading.Event()
        self._idle = threading.Event()
        self._idle.set()

    @property
    def current(self) -> Attempt | None:
        """What is worked on."""
        with self._lock:
            return self._current

    def launch(self) -> None:
        """Begin to take jobs; the tables and the queue are there already."""
        from dbos import DBOS, DBOSPortableJSONSerializer

        DBOS(
            config={
                "name": APPLICATION,
                "system_database_url": self._database.dbos_url,
                "executor_id": self._executor_id,
                "application_version": VERSION,
                "serializer": DBOSPortableJSONSerializer(),
                "run_migrations": False,
                "sys_db_pool_size": _POOL_SIZE,
                "log_level": "WARNING",
            }
        )
        logger = adopted_logger("dbos")
        logger.addFilter(_not_told_yet)
        self._write_stream: Callable[[dict[str, Any]], None] = lambda value: DBOS.write_stream(STREAM, value)
        self._steps = {
            name: DBOS.step(name=name, retries_allowed=False)(_function(step))
            for name, step in (
                ("probe", self._probe),
                ("separate", self._separate),
                ("evaluate", self._evaluate),
                ("publish", self._publish),
            )
        }
        DBOS.workflow(name=WORKFLOW, max_recovery_attempts=self._max_attempts - 1)(_function(self._work))
        DBOS.listen_queues([self._queue])
        DBOS.launch()

    def recover(self, executor_ids: Sequence[str]) -> None:
        """Queue the jobs of dead workers again.

        It does nothing to a job that another worker has taken meanwhile, and swallows errors of single jobs:
        ask afterwards what is left.
        """
        from dbos import DBOS

        DBOS._recover_pending_workflows(list(executor_ids))

    def drain(self, client: "DBOSClient", grace_s: float) -> bool:
        """Take no more jobs; finish the running one, or hand it back after the grace time.

        Returns
        -------
        bool
            Whether a job was handed back.
        """
        from dbos import DBOS

        logging.getLogger("dbos").setLevel(logging.CRITICAL)  # of what it cannot write any more below
        DBOS.destroy(workflow_completion_timeout_sec=max(0, round(grace_s)))
        attempt = self.current
        if attempt is None:
            return False
        handed = self._ledger.hand_back(attempt)
        if handed:
            # This fences our own execution off, and gives the job its attempts anew: nobody died.
            client.resume_workflow(attempt.job_id, queue_name=self._queue)
        self._abandoned.set()
        self._idle.wait(timeout=5.0)
        return handed

    def _work(self, job_id: str) -> str:
        try:
            attempt = self._ledger.begin(job_id)
        except SupersededError:
            return job_id  # it ended between being queued again and now
        with self._working_on(attempt), self._workshop.bench(attempt) as bench:
            self._steps["probe"](bench)
            made = self._steps["separate"](bench) if "separate" in attempt.spec.stages else None
            if "evaluate" in attempt.spec.stages:
                made = self._steps["evaluate"](bench, made)
            self._steps["publish"](attempt, made)
        return job_id

    @contextlib.contextmanager
    def _working_on(self, attempt: Attempt) -> Iterator[None]:
        with self._lock:
            self._current = attempt
            self._idle.clear()
        set_job_id(attempt.job_id)
        try:
            yield
        finally:
            set_job_id("")
            with self._lock:
                self._current = None
                self._idle.set()

    def _probe(self, bench: Bench) -> dict[str, Any]:
        attempt = bench.attempt
        with self._failing(attempt):
            facts = self._stage(attempt, "probe", lambda *_: self._workshop.probe(bench))
            self._ledger.tell(attempt, "probe", _span(attempt, "probe")[1], duration_s=facts["seconds"])
            return facts

    def _separate(self, bench: Bench) -> dict[str, Any]:
        attempt = bench.attempt
        with self._failing(attempt):
            made = self._stage(
                attempt, "separate", lambda gauge, cancel: self._workshop.separate(bench, gauge, cancel)
            )
            end = _span(attempt, "separate")[1]
            self._ledger.tell(attempt, "separate", end, kept=attempt.run, duration_s=made["seconds"])
            return made

    def _evaluate(self, bench: Bench, separated: dict[str, Any] | None) -> dict[str, Any]:
        attempt = bench.attempt
        with self._failing(attempt, keep=True):
            made = self._stage(
                attempt,
                "evaluate",
                lambda gauge, cancel: self._workshop.evaluate(bench, separated, gauge, cancel),
            )
            self._ledger.tell(attempt, "evaluate", _span(attempt, "evaluate")[1], duration_s=made["seconds"])
            return made

    def _publish(self, attempt: Attempt, made: dict[str, Any]) -> None:
        with self._failing(attempt, keep=True):
            self._stage(attempt, "publish", lambda *_: self._workshop.publish(attempt, made))
            self._ledger.succeed(attempt, stems=made["stems"], result=made["result"])
            _LOG.info(
                "job %s of model %s succeeded: %.1f s of audio in %.1f s",
                attempt.job_id,
                attempt.spec.model,
                made["seconds"],
                made["result"]["wall_seconds"],
            )
        try:
            self._workshop.tidy(attempt)
        except StemwrightError:
            _LOG.exception("job %s: its recording is left to the sweeper", attempt.job_id)

    def _stage(self, attempt: Attempt, stage: Stage, work: Callable[..., T]) -> T:
        """Do a stage while telling how far it is; that telling is also what stops it."""
        begin, end = _span(attempt, stage)
        told: list[float] = []

        def beat(part: float) -> None:
            fraction = round(begin + part * (end - begin), 4)
            if self._abandoned.is_set():
                raise SupersededError(f"job {attempt.job_id} was handed back")
            self._ledger.tell(attempt, stage, fraction)
            if not told or fraction > told[-1]:
                told.append(fraction)
                self._write_stream(
                    {"stage": stage, "fraction": fraction, "attempt": attempt.number, "at": time.time()}
                )

        return watched(work, beat, every_s=BEAT_S)

    @contextlib.contextmanager
    def _failing(self, attempt: Attempt, *, keep: bool = False) -> Iterator[None]:
        """Write a failure to the job's row, or leave quietly where the job is not ours any more.

        With `keep` the files stay: `separate` has ended, and whoever goes on needs what it made.
        """
        try:
            yield
        except SupersededError:
            self._drop(attempt, keep=keep)
            raise
        except StemwrightError as error:
            self._fail(attempt, error, keep=keep)
        except Exception as error:
            self._fail(attempt, _unforeseen(error), keep=keep)
        except BaseException:  # DBOS: cancelled, or taken over
            self._drop(attempt, keep=keep)
            raise

    def _fail(self, attempt: Attempt, error: StemwrightError, *, keep: bool) -> None:
        self._drop(attempt, keep=keep)
        self._ledger.fail(attempt, error)
        if isinstance(error, UserError):
            _LOG.info("job %s failed: %s (%s)", attempt.job_id, error.message, error.remedy)
        else:
            _LOG.error("job %s failed: %s", attempt.job_id, error.message, exc_info=error)
        raise JobFailedError(error.code) from None

    def _drop(self, attempt: Attempt, *, keep: bool) -> None:
        if keep:
            return
        try:
            self._workshop.drop_attempt(attempt)
        except BusyError as error:
            _LOG.warning("job %s: files are left to the sweeper: %s", attempt.job_id, error.message)


def _span(attempt: Attempt, stage: Stage) -> tuple[float, float]:
    """Where a stage begins and ends in the fraction of the whole job."""
    stages = attempt.spec.stages
    ends = {one: _ENDS[one] for one in stages}
    if "separate" in ends and "evaluate" in ends:
        ends["separate"] = _SEPARATED_BEFORE_SCORES
    place = stages.index(stage)
    return (ends[stages[place - 1]] if place else 0.0), ends[stage]


def _unforeseen(error: Exception) -> InternalError:
    cause = " ".join(str(error).split())
    failure = InternalError(
        f"unexpected {type(error).__name__}" + (f": {cause}" if cause else ""),
        "tell the operator the id of the job",
    )
    failure.__cause__ = error
    return failure


def _not_told_yet(record: logging.LogRecord) -> bool:
    """Pass what DBOS logs, but for the end of jobs that this module has told of in a line of its own."""
    return record.exc_info is None or not isinstance(record.exc_info[1], JobFailedError | SupersededError)


def _function(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that DBOS can write its marks on; a bound method takes none."""

    def call(*arguments: Any) -> Any:
        return method(*arguments)

    return call
