"""Webhooks in the database: told once for each end of a job, tried again, given up in the end."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from stemwright.service.jobs.database import Database
from stemwright.service.jobs.model import JobSpec
from stemwright.service.jobs.schema import JOBS, METADATA, WEBHOOKS
from stemwright.service.webhooks.addresses import WebhookRules
from stemwright.service.webhooks.outbox import BACK_OFF_S, WebhookOutbox, order, order_again
from stemwright.service.webhooks.sending import Attempt
from stemwright.service.webhooks.signing import verify

NOW = 2_000_000_000.0
OK = Attempt(delivered=True, note="HTTP 200")
DOWN = Attempt(delivered=False, note="HTTP 503")


class Post:
    """Answers deliveries by a list, then by its last."""

    def __init__(self, *answers: Attempt) -> None:
        self.answers = list(answers)
        self.sent: list[tuple[str, bytes, Mapping[str, str]]] = []

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Attempt:
        self.sent.append((url, body, headers))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(f"sqlite:///{tmp_path / 'x.sqlite'}")
    METADATA.create_all(database.engine)
    yield database
    database.close()


def add_job(database: Database, job_id: str = "a", status: str = "queued") -> None:
    with database.writing() as connection:
        connection.execute(
            JOBS.insert().values(
                id=job_id,
                owner="local",
                name="song.mp3",
                queue="default",
                model="tiny",
                spec=JobSpec().model_dump_json(),
                priority=5,
                status=status,
                created_at=NOW - 60,
                updated_at=NOW - 60,
            )
        )
        order(connection, job_id, f"https://example.org/{job_id}")


def end(database: Database, job_id: str = "a", status: str = "succeeded", at: float = NOW - 1) -> None:
    with database.writing() as connection:
        connection.execute(
            update(JOBS).where(JOBS.c.id == job_id).values(status=status, finished_at=at, updated_at=at)
        )


def outbox(database: Database, post: Callable[..., Attempt]) -> WebhookOutbox:
    return WebhookOutbox(database, "secret", WebhookRules(), post=post)


def test_end_of_a_job_is_told_once_signed_with_what_its_receiver_needs(database: Database) -> None:
    post = Post(OK)
    box = outbox(database, post)
    add_job(database)
    assert box.send_due(now=NOW) == 0
    end(database)
    assert box.send_due(now=NOW) == 1
    assert box.send_due(now=NOW + 10**6) == 0
    ((url, body, headers),) = post.sent
    assert url == "https://example.org/a"
    assert verify("secret", headers, body) == f"a_{round((NOW - 1) * 1000)}"
    message = json.loads(body)
    assert message["type"] == "job.succeeded"
    assert message["data"]["id"] == "a"
    assert message["data"]["status"] == "succeeded"
    assert "spec" not in message["data"]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_other_ends_are_told_too(database: Database, status: str) -> None:
    post = Post(OK)
    add_job(database)
    end(database, status=status)
    outbox(database, post).send_due(now=NOW)
    assert json.loads(post.sent[0][1])["type"] == f"job.{status}"


def test_failed_delivery_is_tried_again_later_and_later_under_the_same_id(database: Database) -> None:
    post = Post(DOWN)
    box = outbox(database, post)
    add_job(database)
    end(database)
    now, waits = NOW, []
    for _ in range(len(BACK_OFF_S) + 1):
        assert box.send_due(now=now) == 1
        assert box.send_due(now=now + 1) == 0
        with database.reading() as connection:
            due = connection.execute(select(WEBHOOKS.c.next_at)).scalar_one()
        if due is not None:
            waits.append(due - now)
            now = due
    assert waits == pytest.approx(BACK_OFF_S, rel=0.11)
    assert box.send_due(now=now + 10**7) == 0
    assert len({headers["webhook-id"] for _, _, headers in post.sent}) == 1
    with database.reading() as connection:
        row = connection.execute(select(WEBHOOKS)).one()
    assert (row.settled, row.note) == (NOW - 1, "HTTP 503")


def test_hopeless_delivery_is_not_tried_again(database: Database) -> None:
    post = Post(Attempt(delivered=False, hopeless=True, note="HTTP 410"))
    add_job(database)
    end(database)
    box = outbox(database, post)
    assert [box.send_due(now=NOW + later) for later in (0, 10, 10**7)] == [1, 0, 0]


def test_retried_job_is_told_again_at_its_next_end(database: Database) -> None:
    post = Post(OK)
    box = outbox(database, post)
    add_job(database)
    end(database, status="failed")
    box.send_due(now=NOW)
    with database.writing() as connection:
        connection.execute(update(JOBS).values(status="queued", finished_at=None))
        order_again(connection, "a")
    assert box.send_due(now=NOW + 5) == 0
    end(database, at=NOW + 6)
    assert box.send_due(now=NOW + 7) == 1
    assert [json.loads(body)["type"] for _, body, _ in post.sent] == ["job.failed", "job.succeeded"]
    assert post.sent[0][2]["webhook-id"] != post.sent[1][2]["webhook-id"]


def test_claimer_that_dies_leaves_the_message_to_another(database: Database) -> None:
    def die(*_: object) -> Attempt:
        raise KeyboardInterrupt

    add_job(database)
    end(database)
    with pytest.raises(KeyboardInterrupt):
        outbox(database, die).send_due(now=NOW)
    post = Post(OK)
    box = outbox(database, post)
    assert box.send_due(now=NOW + 30) == 0
    assert box.send_due(now=NOW + 61) == 1


def test_workers_side_by_side_send_each_message_once(database: Database) -> None:
    for number in range(30):
        add_job(database, f"job{number}")
        end(database, f"job{number}")
    post = Post(OK)
    stop = threading.Event()
    boxes = [outbox(database, post) for _ in range(4)]
    threads = [threading.Thread(target=box.run, args=(stop,), kwargs={"tick_s": 0.01}) for box in boxes]
    with database.reading() as connection:
        assert connection.execute(select(WEBHOOKS.c.job_id)).all()
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while len(post.sent) < 30 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert sorted(url for url, _, _ in post.sent) == sorted(f"https://example.org/job{n}" for n in range(30))


def test_deleted_job_takes_its_webhook_with_it(database: Database) -> None:
    add_job(database)
    end(database)
    with database.writing() as connection:
        connection.execute(delete(JOBS))
    assert outbox(database, Post(OK)).send_due(now=NOW) == 0
    with database.reading() as connection:
        assert not connection.execute(select(WEBHOOKS)).all()
