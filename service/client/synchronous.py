"""The client, as plain calls: a thread of its own runs the coroutines of `AsyncClient`.

So it can be used by many threads at a time, and where an event loop runs already.
"""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from stemwright.service.client.asynchronous import AsyncClient
from stemwright.service.client.connection import PATIENCE_S
from stemwright.service.client.downloading import Received
from stemwright.service.client.uploading import Sent
from stemwright.service.client.views import Event, Job, ModelFacts

_T = TypeVar("_T")


class Client:
    """A service. All is as in `AsyncClient`; callbacks come from a thread of the client's."""

    def __init__(
        self,
        server: str,
        *,
        key: str | None = None,
        patience_s: float = PATIENCE_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._client = AsyncClient(server, key=key, patience_s=patience_s, transport=transport)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stemwright-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        if self._loop.is_closed():
            return
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def submit(
        self,
        file: str | Path,
        *,
        idempotency_key: str | None = None,
        sent: Sent | None = None,
        references: Mapping[str, str | Path] | None = None,
        **options: Any,
    ) -> Job:
        """Send a recording and have it separated."""
        return self._run(
            self._client.submit(
                file, idempotency_key=idempotency_key, sent=sent, references=references, **options
            )
        )

    def evaluate(
        self,
        references: Mapping[str, str | Path] | str | Path,
        estimates: Mapping[str, str | Path] | Job,
        *,
        mixture: str | Path | None = None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Job:
        """Have estimates scored against true stems; the job's result has the scores."""
        return self._run(
            self._client.evaluate(
                references, estimates, mixture=mixture, idempotency_key=idempotency_key, **options
            )
        )

    def get(self, job_id: str) -> Job:
        """Look at a job."""
        return self._run(self._client.get(job_id))

    def jobs(self, status: Sequence[str] = ()) -> Iterator[Job]:
        """Go through the jobs, newest first; with `status` those that stand so."""
        return self._iterate(self._client.jobs(status))

    def cancel(self, job_id: str) -> Job:
        """Cancel a job."""
        return self._run(self._client.cancel(job_id))

    def retry(self, job_id: str) -> Job:
        """Queue a job that failed or was cancelled again."""
        return self._run(self._client.retry(job_id))

    def delete(self, job_id: str) -> None:
        """Remove a job and its files."""
        self._run(self._client.delete(job_id))

    def models(self) -> tuple[ModelFacts, ...]:
        """Return the models that jobs can name."""
        return self._run(self._client.models())

    def follow(self, job_id: str) -> Iterator[Event]:
        """Yield what a job tells, up to its final state."""
        return self._iterate(self._client.follow(job_id))

    def wait(self, job_id: str, progress: Callable[[Event], None] | None = None) -> Job:
        """Follow a job to its end and return it, succeeded or not."""
        return self._run(self._client.wait(job_id, progress))

    def download(
        self,
        job: Job,
        folder: str | Path,
        *,
        stems: Sequence[str] | None = None,
        received: Received | None = None,
    ) -> list[Path]:
        """Get the files of a job that has succeeded, each whole and checked, or not at all."""
        return self._run(self._client.download(job, folder, stems=stems, received=received))

    def start(
        self, work: Callable[[AsyncClient], Coroutine[Any, Any, _T]]
    ) -> "concurrent.futures.Future[_T]":
        """Begin with coroutines of `AsyncClient`; cancelling the future ends them."""
        return asyncio.run_coroutine_threadsafe(work(self._client), self._loop)

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise
        except BaseException:
            future.cancel()  # Ctrl-C ends the waiting only; the work has to be told
            raise

    def _iterate(self, items: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    item = self._run(_next(items))
                except _EndError:
                    return
                yield item
        finally:
            self._run(items.aclose())


class _EndError(Exception):
    """An asynchronous iterator is at its end; StopAsyncIteration cannot leave a future."""


async def _next(items: Any) -> Any:
    try:
        return await anext(items)
    except StopAsyncIteration:
        raise _EndError from None
