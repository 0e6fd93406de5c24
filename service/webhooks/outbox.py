"""Webhooks that are due: kept in the database, sent by whichever worker is first, tried again with back-off.

A row is written in the transaction that takes the job, so that none is lost; a message is delivered at least
once. Workers claim a row by moving the time of its next attempt ahead.
"""

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, or_, select, update

from stemwright.service.errors import BusyError
from stemwright.service.jobs.database import Database
from stemwright.service.jobs.schema import JOBS, WEBHOOKS
from stemwright.service.jobs.views import FINAL, job_view
from stemwright.service.webhooks.addresses import WebhookRules
from stemwright.service.webhooks.sending import TIMEOUT_S, Attempt, send
from stemwright.service.webhooks.signing import sign

_LOG = logging.getLogger(__name__)

# Seconds to the next attempt; as Standard Webhooks proposes. After the last one the message is given up.
BACK_OFF_S = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0)
_CLAIM_S = 4 * TIMEOUT_S
_TICK_S = 2.0
_AT_A_TIME = 20
_TOLD = {"id", "name", "status", "created", "started", "finished", "duration_s", "model", "error"}


def order(connection: Connection, job_id: str, url: str) -> None:
    """Have a job's end told; in the transaction that takes the job."""
    connection.execute(WEBHOOKS.insert().values(job_id=job_id, url=url, attempts=0, next_at=0.0))


def order_again(connection: Connection, job_id: str) -> None:
    """Have the next end of a job told too; in the transaction that retries it."""
    connection.execute(update(WEBHOOKS).where(WEBHOOKS.c.job_id == job_id).values(attempts=0, next_at=0.0))


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is sent."""

    id: str
    body: bytes


def message_of(row: RowMapping) -> Message:
    """Make the message of a job's end from its row."""
    job = job_view(row).model_dump(
        mode="json",
        include={"id", "name", "status", "created", "started", "finished", "duration_s", "model", "error"},
    )
    ended = datetime.fromtimestamp(row["finished_at"], UTC).isoformat()
    data = {"type": f"job.{row['status']}", "timestamp": ended, "data": job}
    return Message(
        id=f"{row['id']}_{round(row['finished_at'] * 1000)}",
        body=json.dumps(data, separators=(",", ":")).encode(),
    )


class WebhookOutbox:
    """Sends what is due.

    Parameters
    ----------
    database
        With jobs and webhooks.
    secret
        What messages are signed with.
    rules
        Where messages may go.
    post
        Sends one; for tests.
    """

    def __init__(
        self,
        database: Database,
        secret: str,
        rules: WebhookRules,
        *,
        post: Callable[[str, bytes, Mapping[str, str]], Attempt] | None = None,
    ) -> None:
        self._database = database
        self._secret = secret
        self._rules = rules
        self._post = post or self._send

    def run(self, stop: threading.Event, *, tick_s: float = _TICK_S) -> None:
        """Send what becomes due until `stop` is set."""
        while not stop.is_set():
            try:
                sent = self.send_due()
            except BusyError as error:
                _LOG.warning("webhooks wait: %s", error.message)
                sent = 0
            except Exception:
                _LOG.exception("a webhook could not be sent")  # the others go on
                sent = 0
            if not sent:
                # workers that started together should not look at the same time for ever
                stop.wait(tick_s * random.uniform(0.8, 1.2))

    def send_due(self, *, now: float | None = None) -> int:
        """Try to send what is due; return how many attempts were made.

        Raises
        ------
        BusyError
            The database does not answer.
        """
        now = time.time() if now is None else now
        attempts = 0
        for row in self._due(now):
            if self._claim(row, now):
                self._attempt(row, now)
                attempts += 1
        return attempts

    def _due(self, now: float) -> list[RowMapping]:
        hooks = WEBHOOKS.c
        with self._database.reading() as connection:
            found = connection.execute(
                select(JOBS, hooks.url, hooks.attempts, hooks.next_at)
                .join(WEBHOOKS, hooks.job_id == JOBS.c.id)
                .where(
                    hooks.next_at <= now,
                    JOBS.c.status.in_(FINAL),
                    JOBS.c.finished_at.is_not(None),
                    or_(hooks.settled.is_(None), hooks.settled != JOBS.c.finished_at),
                )
                .order_by(hooks.next_at)
                .limit(_AT_A_TIME)
            )
            return list(found.mappings())

    def _claim(self, row: RowMapping, now: float) -> bool:
        """Take a row before others do; a claimer that dies leaves it to them after a while."""
        with self._database.writing() as connection:
            claimed = connection.execute(
                update(WEBHOOKS)
                .where(WEBHOOKS.c.job_id == row["id"], WEBHOOKS.c.next_at == row["next_at"])
                .values(next_at=now + _CLAIM_S, attempts=row["attempts"] + 1)
            )
            return claimed.rowcount == 1

    def _attempt(self, row: RowMapping, now: float) -> None:
        message = message_of(row)
        headers = sign(self._secret, message.id, round(time.time()), message.body)
        attempt = self._post(row["url"], message.body, headers)
        _LOG.info("webhook of job %s, attempt %d: %s", row["id"], row["attempts"] + 1, attempt.note)
        with self._database.writing() as connection:
            connection.execute(
                update(WEBHOOKS)
                .where(WEBHOOKS.c.job_id == row["id"], WEBHOOKS.c.next_at == now + _CLAIM_S)
                .values(note=attempt.note, **self._after(row, attempt, now))
            )

    def _after(self, row: RowMapping, attempt: Attempt, now: float) -> dict[str, Any]:
        over = attempt.hopeless or row["attempts"] >= len(BACK_OFF_S)
        if attempt.delivered or over:
            if not attempt.delivered:
                _LOG.warning("webhook of job %s is given up: %s", row["id"], attempt.note)
            return {"settled": row["finished_at"], "next_at": None}
        return {"next_at": now + BACK_OFF_S[row["attempts"]] * random.uniform(0.9, 1.1)}

    def _send(self, url: str, body: bytes, headers: Mapping[str, str]) -> Attempt:
        return send(url, body, headers, rules=self._rules)
