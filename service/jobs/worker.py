"""A worker: one process that does the jobs of one queue, one at a time, and keeps house with the others."""

import logging
import os
import shutil
import signal
import sys
import threading
import uuid
from types import FrameType
from typing import NoReturn

from sqlalchemy import func, select

from stemwright.core.errors import EXIT_FAILURE, EXIT_OK, StemwrightError
from stemwright.service.isolation.decoders import Decoders
from stemwright.service.jobs.database import Database
from stemwright.service.jobs.engine import JobEngine
from stemwright.service.jobs.housekeeping import Housekeeper
from stemwright.service.jobs.ledger import Ledger
from stemwright.service.jobs.pulse import Identity, Pulse
from stemwright.service.jobs.schema import JOBS, migrate
from stemwright.service.jobs.stages import Workshop
from stemwright.service.jobs.truth import open_client, register_queue
from stemwright.service.jobs.views import UNFINISHED
from stemwright.service.jobs.warm import WarmEngines
from stemwright.service.settings import Settings
from stemwright.service.storage import Storage
from stemwright.service.webhooks.addresses import WebhookRules
from stemwright.service.webhooks.outbox import WebhookOutbox

_LOG = logging.getLogger(__name__)


class Worker:
    """All of a worker's process but its signals.

    Parameters
    ----------
    settings
        Of the service.
    queue
        Where jobs are taken from.
    engines
        Open models; None for what the settings say.
    """

    def __init__(self, settings: Settings, queue: str, *, engines: WarmEngines | None = None) -> None:
        self._settings = settings
        self._queue = queue
        self.executor_id = uuid.uuid4().hex
        self._engines = engines or WarmEngines(
            settings.models_dir,
            device=settings.device,
            precision=settings.precision,
            most=settings.warm_models,
        )
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ask it to end; safe in a signal handler."""
        self._stop.set()

    def run(self, *, once: bool) -> None:
        """Work until it is asked to end, or with `once` until the queue has no job left.

        Raises
        ------
        BusyError
            Database or storage cannot be reached at the start.
        """
        settings = self._settings
        migrate(settings.database)
        database = Database.open(settings.database, pool_size=3)
        storage = Storage.from_settings(settings)
        client = open_client(database, listen=False, pool_size=2)
        register_queue(client, self._queue, poll_s=settings.poll_s)
        scratch = storage.scratch / self.executor_id
        decoders = Decoders()
        identity = Identity(executor_id=self.executor_id, queue=self._queue, device=settings.device)
        pulse = Pulse(database, identity, self._engines, every_s=settings.heartbeat_s)
        workshop = Workshop(
            storage=storage,
            database=database,
            engines=self._engines,
            decoders=decoders,
            scratch=scratch,
            max_audio_s=settings.max_audio_s,
        )
        engine = JobEngine(
            database,
            Ledger(database, self.executor_id, results_ttl_s=settings.results_ttl_s),
            workshop,
            executor_id=self.executor_id,
            queue=self._queue,
            max_attempts=settings.max_attempts,
        )
        pulse.start()
        try:
            self._warm_up()
            pulse.watch(engine)
            pulse.beat()
            engine.launch()
            _LOG.info("worker %s takes jobs of queue %s", self.executor_id, self._queue)
            keeper = Housekeeper(
                settings,
                database=database,
                client=client,
                storage=storage,
                engine=engine,
                executor_id=self.executor_id,
                stop=self._stop,
            )
            keeper.start()
            self._send_webhooks(database)
            self._wait(database, engine, once=once)
            engine.drain(client, settings.grace_s)
        finally:
            pulse.stop()
            decoders.close()
            shutil.rmtree(scratch, ignore_errors=True)

    def _send_webhooks(self, database: Database) -> None:
        secret = self._settings.webhook_secret
        if secret is None:
            return
        rules = WebhookRules.from_settings(self._settings)
        outbox = WebhookOutbox(database, secret.get_secret_value(), rules)
        threading.Thread(
            target=outbox.run, args=(self._stop,), name="stemwright-webhooks", daemon=True
        ).start()

    def _warm_up(self) -> None:
        """Open the default model's sessions, so that the first job need not wait and health is true."""
        model = self._settings.default_model
        try:
            self._engines.engine(model).separator.prepare()
        except StemwrightError as error:
            _LOG.warning("the default model is not ready: %s (%s)", error.message, error.remedy)

    def _wait(self, database: Database, engine: JobEngine, *, once: bool) -> None:
        while not self._stop.wait(1.0):
            if once and engine.current is None and not self._jobs_left(database):
                return

    def _jobs_left(self, database: Database) -> int:
        with database.reading() as connection:
            return connection.execute(
                select(func.count()).where(JOBS.c.queue == self._queue, JOBS.c.status.in_(UNFINISHED))
            ).scalar_one()


def run_worker(worker: Worker, *, once: bool = False, supervised: bool = False) -> NoReturn:
    """Run a worker until SIGTERM or SIGINT, then end the process, whatever still runs in it.

    The same signal again ends it at once: its job is taken over by others as a dead worker's.

    Parameters
    ----------
    worker
        What runs.
    once
        End when no job is left.
    supervised
        Leave Ctrl-C, which reaches all processes of a terminal, to the supervisor.
    """
    asked: set[int] = set()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if number in asked:
            os._exit(128 + number)
        asked.add(number)
        worker.stop()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, signal.SIG_IGN if supervised else on_signal)
    code = EXIT_FAILURE
    try:
        worker.run(once=once)
        code = EXIT_OK
    except StemwrightError as error:
        _LOG.error("%s (%s)", error.message, error.remedy)
        code = error.exit_code
    except BaseException:
        _LOG.exception("the worker ends")
    finally:
        # A network's call cannot be stopped from outside: threads are not waited for.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
