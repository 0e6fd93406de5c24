"""The client, as coroutines."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from stemwright.core.errors import StemwrightError
from stemwright.service.client.connection import PATIENCE_S, AnswerError, Connection, Patience
from stemwright.service.client.downloading import Received, download
from stemwright.service.client.problems import error_of
from stemwright.service.client.server_events import server_events
from stemwright.service.client.uploading import Sent, file_size, upload
from stemwright.service.client.views import Event, Job, ModelFacts, Stem, strange
from stemwright.service.errors import BusyError

SMALL_BYTES = 8 << 20
"""Files up to this size go with the request for the job; larger ones in pieces, resumably."""
_POLL_S = 2.0
# The service sends a sign of life every 10 s.
_EVENTS_TIMEOUT = httpx.Timeout(35.0, connect=10.0)


class AsyncClient:
    """A service, as its API has it. While it is away or busy, requests are tried again.

    Parameters
    ----------
    server
        Its URL.
    key
        API key, if it needs one.
    patience_s
        How long to go on trying.
    transport
        In place of the network, such as `httpx.ASGITransport`.

    Raises
    ------
    OptionError
        The URL is none.
    """

    def __init__(
        self,
        server: str,
        *,
        key: str | None = None,
        patience_s: float = PATIENCE_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._connection = Connection(server, key=key, patience_s=patience_s, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._connection.close()

    async def submit(
        self,
        file: str | Path,
        *,
        idempotency_key: str | None = None,
        sent: Sent | None = None,
        references: Mapping[str, str | Path] | None = None,
        **options: Any,
    ) -> Job:
        """Send a recording and have it separated.

        Parameters
        ----------
        file
            The recording.
        idempotency_key
            Makes one job of the same request, however often it is sent; by default a new one.
        sent
            Called as the file goes out.
        references
            Files of the true stems by name, for `evaluate=True`.
        options
            Of the job, as the API has them: model, stems, two_stems, format ...

        Raises
        ------
        InputError
            The file cannot be read.
        StemwrightError
            What the service tells.
        """
        path = Path(file)
        size = await asyncio.to_thread(file_size, path)
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        given = {name: value for name, value in options.items() if value is not None}
        if references is not None:
            given["references"] = await self._uploads(references)
        if size > SMALL_BYTES or references is not None:
            given["upload_id"] = await upload(self._connection, path, sent)
            return await self._job("POST", "/v1/jobs", json=given, headers=headers)
        data = await asyncio.to_thread(path.read_bytes)
        job = await self._job(
            "POST",
            "/v1/jobs",
            files={"file": (path.name.encode("utf-8", "replace").decode(), data)},
            data={name: _form_value(value) for name, value in given.items()},
            headers=headers,
        )
        if sent is not None:
            sent(size, size)
        return job

    async def evaluate(
        self,
        references: Mapping[str, str | Path] | str | Path,
        estimates: Mapping[str, str | Path] | Job,
        *,
        mixture: str | Path | None = None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Job:
        """Have estimates scored against true stems; the job's result has the scores.

        Parameters
        ----------
        references
            Files of the true stems by name, or a `.stem.mp4` of MUSDB18.
        estimates
            Files by the names of their stems, or a job that has succeeded.
        mixture
            File of the mixture, for metrics that tell a gain over it; None for the sum of the references.
        idempotency_key
            Makes one job of the same request, however often it is sent; by default a new one.
        options
            As the API has them: metrics, any_order, name ...

        Raises
        ------
        InputError
            A file cannot be read.
        StemwrightError
            What the service tells.
        """
        given = {name: value for name, value in options.items() if value is not None}
        if isinstance(references, Mapping):
            given["references"] = await self._uploads(references)
        else:
            given["stem_mp4"] = await upload(self._connection, Path(references), None)
        if isinstance(estimates, Job):
            given["job_id"] = estimates.id
        else:
            given["estimates"] = await self._uploads(estimates)
        if mixture is not None:
            given["mixture"] = await upload(self._connection, Path(mixture), None)
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return await self._job("POST", "/v1/evaluations", json=given, headers=headers)

    async def _uploads(self, files: Mapping[str, str | Path]) -> dict[str, str]:
        """Send files one after the other; return the uploads' ids by the same names."""
        return {name: await upload(self._connection, Path(file), None) for name, file in files.items()}

    async def get(self, job_id: str) -> Job:
        """Look at a job; raises StemwrightError as the service tells."""
        return await self._job("GET", f"/v1/jobs/{job_id}")

    async def jobs(self, status: Sequence[str] = ()) -> AsyncIterator[Job]:
        """Go through the jobs, newest first; with `status` those that stand so."""
        cursor: str | None = None
        while True:
            query = [*(("status", one) for one in status), *((("cursor", cursor),) if cursor else ())]
            page = await self._json("GET", "/v1/jobs", params=query)
            for item in page["items"]:
                yield self._read(Job.read, item)
            cursor = page.get("cursor")
            if cursor is None:
                return

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job; raises StemwrightError as the service tells."""
        return await self._job("POST", f"/v1/jobs/{job_id}/cancel")

    async def retry(self, job_id: str) -> Job:
        """Queue a job that failed or was cancelled again; raises StemwrightError as the service tells."""
        return await self._job("POST", f"/v1/jobs/{job_id}/retry")

    async def delete(self, job_id: str) -> None:
        """Remove a job and its files; raises StemwrightError as the service tells."""
        await self._connection.call("DELETE", f"/v1/jobs/{job_id}")

    async def models(self) -> tuple[ModelFacts, ...]:
        """Return the models that jobs can name; raises StemwrightError as the service tells."""
        data = await self._json("GET", "/v1/models")
        return tuple(self._read(ModelFacts.read, item) for item in data["items"])

    async def follow(self, job_id: str) -> AsyncIterator[Event]:
        """Yield what a job tells, up to its final state; broken connections are taken up again.

        Raises
        ------
        StemwrightError
            What the service tells: there is no such job, or it was deleted meanwhile.
        """
        patience = Patience(self._connection.patience_s)
        last_id = ""
        while True:
            try:
                async for event in self._events(job_id, last_id):
                    patience.renew()
                    last_id = event.id or last_id
                    yield event
                    if event.final:
                        return
                error: StemwrightError = BusyError("the stream of events ended", "try again")
                wanted_s = None
            except httpx.TransportError as broken:
                error, wanted_s = self._connection.away(broken), None
            except AnswerError as answer:
                if not answer.passes:
                    raise answer.problem from answer
                error, wanted_s = answer.problem, answer.retry_after_s
                if answer.status == httpx.codes.TOO_MANY_REQUESTS:
                    # more streams than a key may have: ask now and then instead
                    event = Event.of(await self.get(job_id))
                    patience.renew()
                    yield event
                    if event.final:
                        return
                    wanted_s = _POLL_S
            await patience.wait(error, wanted_s)

    async def wait(self, job_id: str, progress: Callable[[Event], None] | None = None) -> Job:
        """Follow a job to its end and return it, succeeded or not; raises as `follow` does."""
        async for event in self.follow(job_id):
            if progress is not None:
                progress(event)
        return await self.get(job_id)

    async def download(
        self,
        job: Job,
        folder: str | Path,
        *,
        stems: Sequence[str] | None = None,
        received: Received | None = None,
    ) -> list[Path]:
        """Get the files of a job that has succeeded, each whole and checked, or not at all.

        Parameters
        ----------
        job
            As `wait` or `get` returned it.
        folder
            Where to; made if need be. Files of the same names are replaced.
        stems
            Names of the stems; None for all.
        received
            Called as a file comes in.

        Raises
        ------
        OutputError, ResourceError
            The folder cannot be written.
        StemwrightError
            What the service tells.
        """
        wanted = [stem for stem in job.stems if stems is None or stem.name in stems]
        return [
            await download(self._connection, job.id, stem, Path(folder) / stem.file, received)
            for stem in wanted
        ]

    async def fetch(
        self, job_id: str, stem: Stem, target: str | Path, received: Received | None = None
    ) -> Path:
        """Get one file of a job under a name of your own; raises as `download` does."""
        return await download(self._connection, job_id, stem, Path(target), received)

    async def _events(self, job_id: str, last_id: str) -> AsyncIterator[Event]:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        url = f"/v1/jobs/{job_id}/events"
        async with self._connection.stream("GET", url, headers=headers, timeout=_EVENTS_TIMEOUT) as response:
            async for told in server_events(response.aiter_lines()):
                data = self._read(json.loads, told.data)
                if told.kind == "gone":
                    raise error_of(str(data.get("code")), str(data.get("message")), "", status=404)
                yield self._read(Event.read, data)

    async def _json(self, method: str, path: str, **request: Any) -> Any:
        response = await self._connection.call(method, path, **request)
        return self._read(json.loads, response.content)

    async def _job(self, method: str, path: str, **request: Any) -> Job:
        job: Job = self._read(Job.read, await self._json(method, path, **request))
        return job

    @staticmethod
    def _read(reader: Callable[[Any], Any], data: Any) -> Any:
        try:
            return reader(data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise strange("this", error) from error


def _form_value(value: Any) -> Any:
    """Return an option as a form has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(value)
    return list(map(str, value)) if isinstance(value, list | tuple) else str(value)
