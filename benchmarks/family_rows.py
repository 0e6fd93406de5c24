"""What model_families.py orders of a process, and what it is told."""

from math import prod
from pathlib import Path
from typing import ClassVar

import onnx
from pydantic import BaseModel
from random_models import NETWORKS, Network

from stemwright.models.sessions.runtimes.contract import PrecisionChoice, SessionOptions

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8)


class Row(BaseModel):
    """What was measured of one network on one device in one precision.

    Parameters
    ----------
    network, title, device, precision, runtime
        What ran where.
    parameters, file_mb
        Its size.
    window_s, call_s, cpu_s
        Length of a call, and the median wall and processor time it took, transforms included.
    realtime
        Seconds of audio per second as the device is used: with `calls` side by side in batches of `batch`.
    error, error_db
        Largest difference from the CPU's stems over their deviation, and the difference's power relative
        to theirs in dB.
    open_s, open_mb
        Time and largest memory of opening the session, which the first time rewrites the graph and compares
        with the CPU.
    host_mb, card_mb
        Largest memory of the process while it computes, and what it holds on the card then.
    song_s, separate_s
        Length of a recording, and the time that its separation took from samples to samples.
    failure
        What could not be done.
    """

    HEADINGS: ClassVar = (
        *("network", "parameters", "file, MB", "device", "precision", "error", "dB", "call, s", "CPU, s"),
        *("x real time", "opening, MB", "calls, MB", "card, MB"),
    )
    SONG_HEADINGS: ClassVar = (
        *("model", "device", "precision", "recording, s", "s", "x real time", "dB from first", "process, MB"),
        "card, MB",
    )

    network: str
    title: str
    device: str
    precision: str = ""
    runtime: str = ""
    parameters: int = 0
    file_mb: float = 0
    window_s: float = 0
    call_s: float = 0
    cpu_s: float = 0
    realtime: float = 0
    calls: int = 1
    batch: int = 1
    error: float | None = None
    error_db: float | None = None
    open_s: float = 0
    open_mb: float = 0
    host_mb: float = 0
    card_mb: float | None = None
    song_s: float = 0
    separate_s: float = 0
    failure: str = ""

    def cells(self) -> tuple[str, ...]:
        """Cells of the table of networks."""
        start = (self.title, f"{self.parameters:,}", f"{self.file_mb:.0f}", self.device)
        if self.failure:
            return (*start, self.failure, *[""] * 8)
        error = "" if self.error is None else f"{self.error:.1e}"
        decibels = "" if self.error_db is None else f"{self.error_db:.0f}"
        call, processor = f"{self.call_s:.3g}", f"{self.cpu_s:.3g}"
        used = f"{self.realtime:.3g}" + (f" (batches of {self.batch})" if self.batch > 1 else "")
        memory = (f"{self.open_mb:.0f}", f"{self.host_mb:.0f}", self._card)
        return (*start, self.precision, error, decibels, call, processor, used, *memory)

    def song_cells(self) -> tuple[str, ...]:
        """Cells of the table of recordings."""
        decibels = "" if self.error_db is None else f"{self.error_db:.1f}"
        times = (f"{self.song_s:.1f}", f"{self.separate_s:.2f}", f"{self.song_s / self.separate_s:.1f}")
        return (
            *(self.title, self.device, self.precision, *times, decibels, f"{self.host_mb:.0f}"),
            self._card,
        )

    def line(self) -> str:
        """All of it in a line, for the terminal."""
        return " | ".join(cell for cell in self.cells() if cell) + f" | opened in {self.open_s:.1f} s"

    @property
    def _card(self) -> str:
        return "" if self.card_mb is None else f"{self.card_mb:.0f}"


class Order(BaseModel):
    """What a process is to measure; see model_families.py for the meaning."""

    network: str
    folder: Path
    lock: Path
    device: str = "cpu"
    devices: tuple[str, ...] = ()
    installed: bool = False
    song: Path | None = None
    song_seconds: float | None = None
    stems: Path | None = None
    seconds: float
    threads: int | None = None

    def failed(self, why: str) -> Row:
        """Row that says why there is none."""
        return Row(network=self.network, title=self.title, device=self.device, failure=why)

    @property
    def known(self) -> Network | None:
        """The network, None for what is installed or shipped."""
        return NETWORKS.get(self.network)

    @property
    def title(self) -> str:
        """Name for tables."""
        return self.network if self.known is None else self.known.title

    def row(self, device: str, graph: Path) -> Row:
        """Row with what is known before anything ran."""
        parameters = values_in(graph) if self.known is None else self.known.parameters
        size = graph.stat().st_size / 1e6
        return Row(network=self.network, title=self.title, device=device, parameters=parameters, file_mb=size)

    def options(self, device: str, precision: PrecisionChoice) -> SessionOptions:
        """Session options; caches last as long as the order's folder."""
        cache = self.folder / "cache"
        return SessionOptions(device=device, precision=precision, threads=self.threads, cache_dir=cache)


def values_in(graph: Path) -> int:
    """Count the values that a graph holds."""
    initializers = onnx.load(str(graph)).graph.initializer
    return sum(prod(tensor.dims) for tensor in initializers if tensor.data_type in _FLOATS)
