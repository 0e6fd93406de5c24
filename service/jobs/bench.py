"""What an attempt at a job has at hand: a folder, and its recording, opened once for all stages."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from stemwright.core.audio.encode import OutputFormat, open_writer
from stemwright.service.errors import GoneError
from stemwright.service.isolation.decoders import Decoders
from stemwright.service.isolation.limits import DecodeLimits
from stemwright.service.isolation.source import IsolatedSource, open_isolated
from stemwright.service.jobs.database import patient
from stemwright.service.jobs.ledger import Attempt
from stemwright.service.naming import safe_name
from stemwright.service.storage import Storage

# How long a stage waits for a storage that is away before the job fails.
PATIENCE_S = 120.0
# An example is short by its nature; chosen here.
_MOST_EXAMPLE_S = 600.0


@dataclass(kw_only=True)
class Bench:
    """A place to work on one attempt; a context manager that clears it away.

    Parameters
    ----------
    attempt
        What is worked on.
    storage
        Where uploads lie.
    decoders
        Start the processes that read them.
    folder
        This attempt's own, made when it is needed.
    max_audio_s
        Longest recording that is taken.
    """

    attempt: Attempt
    storage: Storage
    decoders: Decoders
    folder: Path
    max_audio_s: float
    _fetched: Path | None = None
    _opened: IsolatedSource | None = None

    def path(self) -> Path:
        """Return a local copy of the recording.

        Raises
        ------
        GoneError
            It has expired.
        BusyError
            The storage stays away.
        """
        if self.attempt.upload_id is None:
            raise GoneError("the recording has expired", "upload it again for a new job")
        if self._fetched is None:
            self._fetched = self._fetch(self.attempt.upload_id, "recording")
        return self._fetched

    def recording(self) -> IsolatedSource:
        """Return the recording, which stays open for whoever comes next.

        Raises
        ------
        GoneError, BusyError
            It cannot be had.
        InputError
            It is no audio, or too long.
        """
        if self._opened is None:
            limits = DecodeLimits(max_audio_s=self.max_audio_s)
            name = safe_name(self.attempt.name)
            self._opened = open_isolated(self.path(), name=name, limits=limits, decoders=self.decoders)
        return self._opened

    def take_recording(self) -> IsolatedSource:
        """Return the recording, to be closed by the caller; raises as `recording` does."""
        recording, self._opened = self.recording(), None
        return recording

    def example(self, upload: str) -> Path:
        """Fetch an example and decode it where it can do no harm; return a file of ours.

        Raises
        ------
        InputError
            It is no audio, or too long.
        BusyError
            The storage stays away.
        """
        sent = self._fetch(upload, "example")
        clean = self.folder / "example.wav"
        limits = DecodeLimits(max_audio_s=min(self.max_audio_s, _MOST_EXAMPLE_S))
        with open_isolated(sent, name="query_audio", limits=limits, decoders=self.decoders) as example:
            info, fmt = example.info, OutputFormat(container="wav", bit_depth="32f")
            with open_writer(clean, fmt, info.sample_rate, info.channels, layout=info.layout) as writer:
                for block in example.blocks():
                    writer.write(block)
                writer.commit()
        return clean

    def _fetch(self, upload: str, name: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / name
        patient(lambda: self.storage.fetch_upload(upload, target), PATIENCE_S)
        return target

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._opened is not None:
                self._opened.close()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
