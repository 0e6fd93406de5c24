"""The models behind a separator: their sessions, and calls that get smaller when memory runs out."""

import dataclasses
import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from stemwright.core.arrays import ComplexArray, FloatArray
from stemwright.core.errors import InternalError, ModelFileError, OptionError, OutOfMemoryError
from stemwright.models.graphs.roles import ModelInputs, model_inputs, stems_from_outputs
from stemwright.models.manifest import Graph, Manifest
from stemwright.models.registry.store import Installed, InstalledModel, ModelStore, open_model
from stemwright.models.sessions.opening import Session, SessionFacts, SessionOptions, open_session

_LOG = logging.getLogger(__name__)

ModelChoice = str | Path | Installed
"""A model by name, by path, or already opened in the registry."""


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
        if len(stems) < given:
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


def common_stems(models: Sequence[Installed]) -> tuple[str, ...]:
    """Stems that all models have, in the order of the first.

    Raises
    ------
    OptionError
        There is none.
    """
    stems = tuple(
        stem for stem in models[0].manifest.stems if all(stem in other.manifest.stems for other in models)
    )
    if not stems:
        raise OptionError(
            f"{' and '.join(model.name for model in models)} have no stem in common",
            "average models that give the same stems",
        )
    return stems


def open_members(
    choices: Sequence[ModelChoice],
    weights: Sequence[float] | None,
    store: ModelStore | None,
    options: SessionOptions,
) -> tuple[tuple[Member, ...], tuple[str, ...]]:
    """Find models and bags and weigh their members.

    Parameters
    ----------
    choices
        Models to average; a bag stands for its members.
    weights
        Weight of each in the average; None for equal weights.
    store
        Where names are looked up; None for the user's store.
    options
        For the sessions, which are opened only when they are needed.

    Returns
    -------
    tuple
        The members, and the stems that can be had.

    Raises
    ------
    OptionError
        No models, weights that make no average, or models without a common stem.
    ModelNotFoundError, ModelFileError
        From the registry.
    """
    if not choices:
        raise OptionError("no model was named", "name at least one")
    factors = [1.0] * len(choices) if weights is None else list(weights)
    usable = all(math.isfinite(factor) and factor >= 0 for factor in factors) and sum(factors) > 0
    if len(factors) != len(choices) or not usable:
        raise OptionError(
            f"{len(factors)} weights {factors} do not make an average of {len(choices)} models",
            "give one weight of at least 0 for each model, not all of them 0",
        )
    models = [open_model(c, store) if isinstance(c, str | Path) else c for c in choices]
    alone = models[0]
    if len(models) == 1 and isinstance(alone, InstalledModel) and alone.manifest.stem_kind == "query":
        return (_member(alone, {}, options),), ()
    stems = common_stems(models)
    gains: dict[Path, dict[str, float]] = {}
    owners: dict[Path, InstalledModel] = {}
    for model, factor in zip(models, factors, strict=True):
        for owner, share in _shares(model, stems):
            # A model that is named twice runs once, with both shares.
            owners[owner.graph_path] = owner
            sums = gains.setdefault(owner.graph_path, dict.fromkeys(stems, 0.0))
            for stem, gain in share.items():
                sums[stem] += gain * factor / sum(factors)
    return tuple(_member(owner, gains[path], options) for path, owner in owners.items()), stems


def _shares(model: Installed, stems: tuple[str, ...]) -> Iterator[tuple[InstalledModel, dict[str, float]]]:
    """Yield the single models behind a model or bag and their shares in its stems."""
    if isinstance(model, InstalledModel):
        yield model, dict.fromkeys(stems, 1.0)
        return
    for member in model.members:
        share = {}
        for index, stem in enumerate(model.manifest.stems):
            if stem in stems:
                share[stem] = member.weights[index] / sum(other.weights[index] for other in model.members)
        yield member.model, share


def _member(model: InstalledModel, gains: Mapping[str, float], options: SessionOptions) -> Member:
    return Member(
        name=model.name,
        manifest=model.manifest,
        gains=gains,
        opener=lambda: open_session(model, options),
    )
