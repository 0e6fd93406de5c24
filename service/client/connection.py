"""Requests that are tried again: while the service is away, busy, or asks for patience."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from stemwright.core.errors import OptionError, StemwrightError
from stemwright.service.client.problems import problem_of
from stemwright.service.errors import BusyError

PATIENCE_S = 120.0
_AWAY = (429, 502, 503, 504)
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)


class Patience:
    """How long to go on trying: a time since the last success, with growing pauses."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self.renew()

    def renew(self) -> None:
        """Begin anew: something succeeded."""
        self._until = time.monotonic() + self._limit_s
        self._pause = _FIRST_PAUSE_S

    async def wait(self, error: StemwrightError, wanted_s: float | None = None) -> None:
        """Wait before the next try; raises `error` where that would be too late."""
        pause = wanted_s if wanted_s is not None else self._pause * random.uniform(0.75, 1.25)
        if time.monotonic() + pause > self._until:
            raise error
        await asyncio.sleep(pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)


class Connection:
    """HTTP to one service.

    Parameters
    ----------
    server
        Its URL.
    key
        API key, if it needs one.
    patience_s
        How long to go on trying while it is away or busy.
    transport
        In place of the network.
    """

    def __init__(
        self, server: str, *, key: str | None, patience_s: float, transport: httpx.AsyncBaseTransport | None
    ) -> None:
        try:
            url = httpx.URL(server)
        except httpx.InvalidURL as error:
            raise OptionError(f"{server!r} is no URL", "write it like http://localhost:8000") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise OptionError(f"{server!r} is no URL of a service", "write it like http://localhost:8000")
        self.server = server.rstrip("/")
        self.patience_s = patience_s
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.AsyncClient(
            base_url=self.server, headers=headers, timeout=_TIMEOUT, transport=transport
        )

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def call(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Send a request that may be sent twice; return its answer.

        Raises
        ------
        StemwrightError
            What the service tells, or BusyError where it is away for too long.
        """
        patience = Patience(self.patience_s)
        while True:
            try:
                response = await self._http.request(method, path, **request)
            except httpx.TransportError as error:
                await patience.wait(self.away(error))
                continue
            if response.is_success or response.status_code == httpx.codes.NOT_MODIFIED:
                return response
            problem = problem_of(response, response.content)
            if response.status_code not in _AWAY:
                raise problem
            await patience.wait(problem, retry_after(response))

    @contextlib.asynccontextmanager
    async def stream(self, method: str, path: str, **request: Any) -> AsyncIterator[httpx.Response]:
        """Send a request once; its answer is read in the context.

        Raises
        ------
        StemwrightError
            What the service tells.
        httpx.TransportError
            The connection breaks.
        """
        async with self._http.stream(method, path, **request) as response:
            if not response.is_success:
                raise AnswerError(response, problem_of(response, await response.aread()))
            yield response

    def away(self, error: Exception) -> BusyError:
        """Return the error for a service that does not answer."""
        cause = " ".join(str(error).split()) or type(error).__name__
        return BusyError(
            f"{self.server} does not answer: {cause}", "check the address, and that the service runs there"
        )


class AnswerError(Exception):
    """An answer to a streamed request that is an error."""

    def __init__(self, response: httpx.Response, problem: StemwrightError) -> None:
        super().__init__(problem.message)
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.retry_after_s = retry_after(response)
        self.problem = problem

    @property
    def passes(self) -> bool:
        """Whether it is worth trying again."""
        return self.status in _AWAY


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that an answer asks to wait, None if it does not say."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else None
