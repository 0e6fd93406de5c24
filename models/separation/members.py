"""A model behind a separator: its session, and calls that get smaller when memory runs out."""

import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from stemwright.core.arrays import ComplexArray, FloatArray
from stemwright.core.errors import InternalError, ModelFileError, OptionError, OutOfMemoryError
from stemwright.models.graphs.roles import ModelInputs, model_inputs, stems_from_outputs
from stemwright.models.manifest import Graph, Manifest
from stemwright.models.sessions.opening import Session, SessionFacts

_LOG = logging.getLogger(__name__)


class Member:
    """One model of a separator; its session is opened when a stem first needs it.

    Parameters
    ----------
    name
        Name for messages.
    manifest
        Its manifest.
    gains
        For each stem that it takes part in, its factor in the sum over the members. The gains of
        all members for a stem add up to 1.
    opener
        Opens its session.
    """

    def __init__(
        self, *, name: str, manifest: Manifest, gains: Mapping[str, float], opener: Callable[[], Session]
    ) -> None:
        unknown = [stem for stem in gains if stem not in manifest.stems]
        if unknown:
            raise ValueError(f"{name} has no stem {unknown[0]}")
        self.name = name
        self.manifest = manifest
        self.gains = {stem: gain for stem, gain in gains.items() if gain > 0}
        self._opener = opener
        self._session: Session | None = None
        self._lock = threading.Lock()
        self._calls = threading.Semaphore(1)
        self._fitting_batch: int | None = None

    @property
    def session(self) -> Session:
        """Its session, opened now if it was not; raises what open_session does."""
        with self._lock:
            if self._session is None:
                self._session = self._opener()
                self._calls = threading.Semaphore(max(1, self._session.facts.parallel_calls))
            return self._session

    @property
    def graph(self) -> Graph:
        """The signature that the session presents."""
        return self.session.graph

    @property
    def facts(self) -> SessionFacts | None:
        """What the session uses, None while it is closed; `batch_limit` is what has proved to fit."""
        if self._session is None:
            return None
        facts = self._session.facts
        if self._fitting_batch is None or self._fitting_batch >= facts.batch_limit:
            return facts
        return dataclasses.replace(facts, batch_limit=self._fitting_batch)

    def batch_size(self, wanted: int | None) -> int:
        """Largest batch to give it now: what is wanted, within what its session and memory allow."""
        if self.graph.batch == "one":
            return 1
        limit = self.session.facts.batch_limit
        size = limit if wanted is None else min(wanted, limit)
        return max(1, size if self._fitting_batch is None else min(size, self._fitting_batch))

    def prepare(
        self,
        windows: FloatArray,
        *,
        condition: FloatArray | None = None,
        spans: Sequence[tuple[int, int]] | None = None,
    ) -> ModelInputs:
        """Turn windows, shape=(batch, channels, samples), into the graph's inputs.

        Parameters
        ----------
        windows
            What the network hears.
        condition
            What it is asked for, shape=(batch, D).
        spans
            For each window, begin and end of the recording in samples from the window's begin; None where
            the recording goes on on both sides.
        """
        return model_inputs(self.graph, windows, condition=condition, spans=spans)

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run a batch, in smaller ones where it does not fit into memory.

        Raises
        ------
        OutOfMemoryError
            A batch of one does not fit.
        InternalError
            The runtime failed.
        """
        size = next(iter(inputs.values())).shape[0]
        parts: list[dict[str, FloatArray]] = []
        done = 0
        while done < size:
            count = min(size - done, self._fitting_batch or size)
            span = slice(done, done + count)
            try:
                with self._calls:
                    parts.append(self.session.run({name: array[span] for name, array in inputs.items()}))
            except OutOfMemoryError:
                if count == 1:
                    raise
                with self._lock:
                    self._fitting_batch = min((count + 1) // 2, self._fitting_batch or size)
                _LOG.warning(
                    "%s: a batch of %d did not fit; at most %d from here on",
                    self.name,
                    count,
                    self._fitting_batch,
                )
                continue
            done += count
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def run_with_state(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run one call of a graph with a state, which is among the inputs and outputs.

        Raises
        ------
        OutOfMemoryError
            It does not fit.
        InternalError
            The runtime failed.
        """
        with self._calls:
            return self.session.run(inputs)

    def recover(
        self,
        outputs: Mapping[str, FloatArray],
        spectrum: ComplexArray | None,
        stems: Sequence[int],
        samples: int | None = None,
    ) -> FloatArray:
        """Turn a call's outputs into some of its stems, shape=(batch, len(stems), channels, samples).

        Parameters
        ----------
        outputs
            The graph's outputs.
        spectrum
            What `prepare` gave with the inputs.
        stems
            Indices of the stems.
        samples
            Length of the call's window; None for that of a whole one.

        Raises
        ------
        ModelFileError
            The outputs do not have the shape that the manifest promises.
        OptionError
            The network does not give one of these stems: its model's remainder.
        InternalError
            They hold values that are not finite.
        """
        plan = self.manifest.plan
        samples = plan.input_samples if samples is None else samples
        given = self._given_stems(outputs, stems)
        if tuple(stems) != tuple(range(given)):  # some of them, or all in another order
            outputs = {name: array[:, list(stems)] for name, array in outputs.items()}
        waveforms = stems_from_outputs(self.graph, outputs, spectrum, samples)
        length = plan.output_samples if plan.time == "fixed" else samples
        if waveforms.shape[-1] == samples:  # spectra cover the whole window
            waveforms = waveforms[..., plan.output_offset : plan.output_offset + length]
        expected = (waveforms.shape[0], len(stems), self.manifest.audio.channels, length)
        if waveforms.shape != expected:
            raise ModelFileError(
                f"{self.name}: a call gives shape {waveforms.shape}, its manifest says {expected}",
                "import or pull the model again",
            )
        # The sum is finite exactly if every sample is: one pass, and no mask of the same size.
        if not np.isfinite(waveforms.sum(dtype=np.float64)):
            raise InternalError(f"{self.name} gave values that are not finite", "try --precision float32")
        return waveforms

    def _given_stems(self, outputs: Mapping[str, FloatArray], stems: Sequence[int]) -> int:
        """Length of the outputs' S axis, which has to hold the stems that are asked for."""
        manifest = self.manifest
        possible = {manifest.output_stems}
        if manifest.remainder is not None:
            possible.add(manifest.output_stems - 1)
        for name, array in outputs.items():
            if array.ndim < 3 or array.shape[1] not in possible:
                raise ModelFileError(
                    f"{self.name}: output {name} has shape {array.shape}, not {manifest.output_stems} stems",
                    "import or pull the model again",
                )
        given = min(int(array.shape[1]) for array in outputs.values())
        if max(stems) >= given:
            raise OptionError(
                f"the network of {self.name} gives no {manifest.remainder}",
                "take it by subtraction",
            )
        return given

    def close(self) -> None:
        """Free the session; no call may be in flight. It is opened again if it is needed."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None
