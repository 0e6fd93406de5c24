"""What every runtime offers: the session protocol, its options and its facts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import platformdirs

from stemwright.core.arrays import FloatArray
from stemwright.models.manifest import Graph, Manifest, Precision

Provider = Literal["cpu", "openvino", "cuda", "tensorrt"]
PrecisionChoice = Literal["auto", "float32", "bfloat16", "float16", "int8"]


def default_cache_dir() -> Path:
    """Folder of the user's cache for rewritten graphs and compiled models; all in it can be made again."""
    return platformdirs.user_cache_path("stemwright")


class ModelFiles(Protocol):
    """The part of an installed model that a session needs."""

    @property
    def manifest(self) -> Manifest:
        """Its validated manifest."""

    @property
    def graph_path(self) -> Path:
        """Its ONNX file."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the ONNX file, in hex."""


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """How a graph is to be run.

    Parameters
    ----------
    device
        `auto`, `cpu` (ONNX Runtime), `openvino`, `cuda`, `cuda:N` or `tensorrt`.
    precision
        `float32` forces exactness; `auto` takes a lower precision only where the manifest records
        that it was measured to be safe and the machine has instructions for it.
    threads
        CPU threads for the network; None takes the physical cores this process may use.
    low_memory
        Trade speed for a smaller peak of memory.
    cache_dir
        Where rewritten graphs and compiled models are kept.
    """

    cache_dir: Path = field(default_factory=default_cache_dir)
    device: str = "auto"
    precision: PrecisionChoice = "auto"
    threads: int | None = None
    low_memory: bool = False


@dataclass(frozen=True, kw_only=True)
class SessionFacts:
    """What a session really uses.

    Parameters
    ----------
    provider
        Kind of execution provider.
    device
        Name of the device, for example `cpu` or `cuda:0`.
    runtime
        Library and version.
    precision
        Precision of the network's large products.
    threads
        CPU threads in all.
    parallel_calls
        How many `run` calls may be, and for full speed should be, in flight at once.
    batch_limit
        Largest batch that one call should be given.
    chosen_because
        Why this provider and this precision, in one line.
    rewrites
        Names of the graph rewrites that changed something, each with its number of places.
    """

    provider: Provider
    device: str
    runtime: str
    precision: Precision
    threads: int
    parallel_calls: int
    batch_limit: int
    chosen_because: str
    rewrites: tuple[str, ...] = ()


class Session(Protocol):
    """One loaded graph."""

    @property
    def facts(self) -> SessionFacts:
        """What it uses."""

    @property
    def graph(self) -> Graph:
        """The signature it presents; a GPU session may present waveform -> waveform."""

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run one batch.

        Parameters
        ----------
        inputs
            Array for each input of `graph`, float32, shapes as GraphInput tells; with a state also one
            for each StateTensor, of its own type, and a batch of one.

        Returns
        -------
        dict
            Array for each output of `graph`, float32, owned by the caller; with a state also its own.

        Raises
        ------
        OutOfMemoryError
            The batch did not fit; a smaller one may.
        InternalError
            The runtime failed.
        """

    def close(self) -> None:
        """Free the network's memory; no call may be in flight."""
