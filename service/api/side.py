"""What needs numpy or an audio library runs in a process beside: the API's own stays small and responsive."""

import asyncio
import dataclasses
import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from stemwright.service.api.problems import retry_after
from stemwright.service.jobs.model import StemView
from stemwright.service.settings import Settings

if TYPE_CHECKING:
    from stemwright.service.media.desk import MediaDesk

_P = ParamSpec("_P")
_T = TypeVar("_T")


class SideProcess:
    """A process that is started when it is first needed, and again when it has died."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool: ProcessPoolExecutor | None = None

    async def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call a module's function there.

        Raises
        ------
        ProblemError
            The process died.
        """
        assert not kwargs  # run_in_executor takes none
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(self._settings,)
            )
        pool = self._pool
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, function, *args)
        except BrokenProcessPool:
            if self._pool is pool:
                self._pool = None
            pool.shutdown(wait=False)
            raise retry_after("unavailable", 1, "a process of the service died") from None

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


_settings: Settings | None = None  # of the process beside, set once at its start
_desk: "MediaDesk | None" = None


def _begin(settings: Settings) -> None:
    import signal

    global _settings
    _settings = settings
    # Ctrl-C reaches the whole group; the API ends this process when it is done with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _media() -> "MediaDesk":
    from stemwright.service.media.desk import MediaDesk
    from stemwright.service.storage import Storage

    global _desk
    if _desk is None:
        assert _settings is not None  # _begin has run
        _desk = MediaDesk(Storage.from_settings(_settings))
    return _desk


def peaks_bytes(job_id: str, stem: StemView, name: str) -> bytes:
    """Return the overviews of a stem in the binary form."""
    return _media().peaks(job_id, stem, name=name).to_bytes()


def peaks_json(job_id: str, stem: StemView, name: str, bins: int) -> bytes:
    """Return one overview of a stem as JSON: the coarsest zoom of at least so many bins."""
    peaks = _media().peaks(job_id, stem, name=name)
    return json.dumps(
        {
            "sample_rate": peaks.sample_rate,
            "channels": peaks.channels,
            "frames": peaks.frames,
            "zooms": [zoom.samples_per_bin for zoom in peaks.zooms],
            **peaks.zoom(bins).as_dict(),
        },
        separators=(",", ":"),
    ).encode()


def preview_facts(job_id: str, stem: StemView, name: str) -> dict[str, Any]:
    """Return how a stem is cut."""
    facts = _media().preview(job_id, stem, name=name)
    return {**dataclasses.asdict(facts), "pieces": facts.pieces, "formats": list(facts.formats)}


def piece_key(job_id: str, stem: StemView, index: int, container: str, name: str) -> str:
    """Make a piece of a stem; return its key in the storage."""
    if container not in ("wav", "flac"):
        raise ValueError(f"no format for pieces: {container}")
    return _media().piece(job_id, stem, index, "wav" if container == "wav" else "flac", name=name)
