"""What a worker does beside its jobs: reaping; and one of all of them, sweeping and reconciling."""

import logging
import threading
import time
from typing import TYPE_CHECKING

from stemwright.service.errors import BusyError
from stemwright.service.jobs.database import Database, translated
from stemwright.service.jobs.engine import JobEngine
from stemwright.service.jobs.reaper import Reaper
from stemwright.service.jobs.schema import JOBS
from stemwright.service.jobs.sweeper import Sweeper
from stemwright.service.jobs.truth import reconcile
from stemwright.service.settings import Settings
from stemwright.service.storage import Storage

if TYPE_CHECKING:
    from dbos import DBOSClient

_LOG = logging.getLogger(__name__)

_STRAYS_EVERY_S = 30.0
_QUEUED_EVERY_S = 300.0
_ORPHANS_EVERY_S = 3600.0
_SWEEP_EVERY_S = 60.0
# Jobs that have ended are tidied up after this much longer than a dead worker stays undiscovered.
_ENDED_S = 600.0


class Housekeeper(threading.Thread):
    """A thread that reaps at every heartbeat; of all living workers the first by name does the rest too.

    Parameters
    ----------
    settings
        Times.
    database, client, storage
        What is kept.
    engine
        Of this worker.
    executor_id
        This worker.
    stop
        Ends the thread.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        client: "DBOSClient",
        storage: Storage,
        engine: JobEngine,
        executor_id: str,
        stop: threading.Event,
    ) -> None:
        super().__init__(name="stemwright-housekeeper", daemon=True)
        self._settings = settings
        self._database = database
        self._client = client
        self._executor_id = executor_id
        self._stop_event = stop
        self._reaper = Reaper(
            database,
            client,
            engine,
            executor_id=executor_id,
            dead_after_s=settings.dead_after_s,
            scratch=storage.scratch,
        )
        self._sweeper = Sweeper(settings, database=database, client=client, storage=storage)
        self._due: dict[str, float] = {}
        self._last = time.monotonic()
        self._believe_from = 0.0
        self._sweeping = threading.Thread()

    def run(self) -> None:
        """Keep house until the worker ends."""
        while not self._stop_event.wait(self._settings.heartbeat_s):
            try:
                with translated():
                    self._database.ping()
                    self.keep()
                self._last = time.monotonic()
            except BusyError as error:
                _LOG.warning("house not kept: %s", error.message)
            except Exception:
                _LOG.exception("house not kept")  # the jobs go on, and so does the next round

    def keep(self) -> None:
        """Do what is due."""
        if self._believes():
            self._reaper.reap()
        living = self._reaper.living()
        if self._is_due("scratch", _ORPHANS_EVERY_S):
            self._sweeper.sweep_scratch(living)
        if self._executor_id != min(living):
            return
        self._reconcile(begun=True)
        if self._is_due("strays", _STRAYS_EVERY_S):
            self._reaper.reap_strays()
        if self._is_due("queued", _QUEUED_EVERY_S):
            self._reconcile(begun=False)
        if not self._sweeping.is_alive() and self._is_due("sweep", _SWEEP_EVERY_S):
            # beside the rounds: many removals take longer than a dead worker may go unnoticed
            self._sweeping = threading.Thread(target=self._sweep, daemon=True)
            self._sweeping.start()

    def _sweep(self) -> None:
        try:
            with translated():
                removed = self._sweeper.sweep_expired()
                removed += self._sweeper.sweep_ended(
                    since=time.time() - self._settings.dead_after_s - _ENDED_S
                )
                if self._is_due("orphans", _ORPHANS_EVERY_S):
                    removed += self._sweeper.sweep_orphans()
        except BusyError as error:
            _LOG.warning("not swept: %s", error.message)
        except Exception:
            _LOG.exception("not swept")  # what is left is there the next time
        else:
            if removed:
                _LOG.info("swept %d", removed)

    def _believes(self) -> bool:
        """Whether silence means death: not where the database was away, and all were silent with it."""
        now = time.monotonic()
        if now - self._last > self._settings.dead_after_s:
            self._believe_from = now + self._settings.dead_after_s
        return now >= self._believe_from

    def _reconcile(self, *, begun: bool) -> None:
        which = JOBS.c.attempt > 0 if begun else JOBS.c.attempt == 0
        reconcile(
            self._client,
            self._database,
            which,
            results_ttl_s=self._settings.results_ttl_s,
            settled_s=self._settings.dead_after_s,
        )

    def _is_due(self, name: str, every_s: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(name, 0.0):
            return False
        self._due[name] = now + every_s
        return True
