"""What makes estimates: models through the one separator, and oracles."""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.encode import OutputFormat, open_writer
from stemwright.core.audio.source import open_source
from stemwright.core.errors import InputError
from stemwright.eval.asking import AskedEstimator
from stemwright.eval.datasets.contract import Nature, OpenTrack
from stemwright.eval.datasets.sources import Named
from stemwright.eval.oracles import Oracle, oracle_blocks
from stemwright.eval.separating import Report, separated_blocks
from stemwright.models.manifest import Manifest
from stemwright.models.query.queries import QueryMaker
from stemwright.models.registry.installed import Installed, InstalledModel
from stemwright.models.registry.store import open_model
from stemwright.models.separation.separator import CancelToken, SeparationOptions, Separator
from stemwright.models.sessions.opening import SessionOptions
from stemwright.models.taggers.session import tagger_session

_FLOAT_WAV = OutputFormat(container="wav", bit_depth="32f")
_SUFFIX = ".wav"


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """Models to open, averaged if several, and how they are run."""

    models: tuple[str, ...]
    weights: tuple[float, ...] | None = None
    session: SessionOptions = field(default_factory=SessionOptions)
    separation: SeparationOptions = field(default_factory=SeparationOptions)


class Estimator(Protocol):
    """Makes estimates of tracks."""

    @property
    def interchangeable(self) -> bool:
        """Whether its stems are equal in rank, and come in any order."""

    def stems(self, track: OpenTrack) -> tuple[str, ...]:
        """Names of the stems that it can give of a track."""

    def notes(self, track: OpenTrack) -> tuple[str, ...]:
        """Tell what is worth knowing of its work on a track."""

    def blocks(
        self, track: OpenTrack, stems: tuple[str, ...], report: Report, cancel: CancelToken
    ) -> Iterator[dict[str, FloatArray]]:
        """Yield those stems from the start, shapes=(channels, n), at the mixture's rate."""


@dataclass(frozen=True, kw_only=True)
class OracleEstimator:
    """An oracle; see stemwright.eval.oracles."""

    oracle: Oracle
    nature: Nature

    @property
    def interchangeable(self) -> bool:
        """Never: it knows which stem is which."""
        return False

    def stems(self, track: OpenTrack) -> tuple[str, ...]:
        """Those of the data."""
        return tuple(track.references)

    def notes(self, track: OpenTrack) -> tuple[str, ...]:
        """Tell the transform."""
        if self.oracle.kind == "mixture":
            return ()
        n_fft, hop = self.oracle.resolved(self.nature, track.mixture.info.sample_rate)
        return (f"masks of a Hann window of {n_fft} samples, hop {hop}",)

    def blocks(
        self, track: OpenTrack, stems: tuple[str, ...], report: Report, cancel: CancelToken
    ) -> Iterator[dict[str, FloatArray]]:
        """See Estimator."""
        frames, done = track.mixture.info.frames, 0
        for block in oracle_blocks(self.oracle, track, self.nature):
            yield {name: block[name] for name in stems}
            done += next(iter(block.values())).shape[1]
            report("separating", min(1.0, done / frames) if frames else 0.0)


@dataclass(frozen=True, kw_only=True)
class ModelEstimator:
    """Opened models."""

    separator: Separator
    separation: SeparationOptions
    interchangeable: bool

    def stems(self, track: OpenTrack) -> tuple[str, ...]:
        """Those of the models."""
        return self.separator.output_stems(self.separation)

    def notes(self, track: OpenTrack) -> tuple[str, ...]:
        """Tell that the model works at another rate."""
        own, rate = self.separator.sample_rate, track.mixture.info.sample_rate
        return () if own == rate else (f"separated at the model's {own} Hz, scored at {rate} Hz",)

    def blocks(
        self, track: OpenTrack, stems: tuple[str, ...], report: Report, cancel: CancelToken
    ) -> Iterator[dict[str, FloatArray]]:
        """See Estimator."""
        options = dataclasses.replace(self.separation, stems=stems)
        yield from separated_blocks(self.separator, track, stems, options, report=report, cancel=cancel)


@contextlib.contextmanager
def open_estimator(choice: ModelChoice | Oracle, nature: Nature) -> Iterator[Estimator]:
    """Open what makes estimates.

    Raises
    ------
    ModelNotFoundError, ModelFileError, DeviceError
        A model cannot be had or opened.
    OptionError
        Models that cannot be averaged.
    """
    if isinstance(choice, Oracle):
        yield OracleEstimator(oracle=choice, nature=nature)
        return
    models = [open_model(name) for name in choice.models]
    manifests = [manifest for model in models for manifest in _manifests(model)]
    rules = next((manifest.query for manifest in manifests if manifest.query is not None), None)
    with Separator.open(models, options=choice.session, weights=choice.weights) as separator:
        if rules is not None:
            maker = QueryMaker(rules, tagger_session(rules.tagger, choice.session))
            yield AskedEstimator(separator=separator, separation=choice.separation, maker=maker)
            return
        yield ModelEstimator(
            separator=separator,
            separation=choice.separation,
            interchangeable=any(manifest.stem_kind == "interchangeable" for manifest in manifests),
        )


def model_facts(choice: ModelChoice | Oracle) -> tuple[str, dict[str, Any]]:
    """Return the label and what run.json keeps: what decides the estimates.

    Raises
    ------
    ModelNotFoundError, ModelFileError
        A model cannot be had.
    """
    if isinstance(choice, Oracle):
        return choice.label, dict(choice.options())
    separation = choice.separation
    return "+".join(Path(name).name for name in choice.models), {
        "models": [Path(name).name for name in choice.models],
        "sha256": [open_model(name).sha256 for name in choice.models],
        "weights": list(choice.weights) if choice.weights is not None else None,
        "precision": choice.session.precision,
        "overlap": separation.overlap,
        "shifts": separation.shifts,
        "seed": separation.seed,
        "remainder": separation.remainder,
    }


def _manifests(model: Installed) -> list[Manifest]:
    if isinstance(model, InstalledModel):
        return [model.manifest]
    return [member.model.manifest for member in model.members]


def write_estimates(
    blocks: Iterator[dict[str, FloatArray]], stems: tuple[str, ...], track: OpenTrack, folder: Path
) -> dict[str, Named]:
    """Write estimates as files of 32-bit float, and open them.

    Raises
    ------
    StemwrightError
        What the separation, the disk or the mixture raises.
    """
    info = track.mixture.info
    with contextlib.ExitStack() as stack:
        writers = {
            name: stack.enter_context(
                open_writer(
                    folder / f"{name}{_SUFFIX}",
                    _FLOAT_WAV,
                    info.sample_rate,
                    info.channels,
                    layout=info.layout,
                )
            )
            for name in stems
        }
        written = 0
        for block in blocks:
            for name, writer in writers.items():
                writer.write(block[name])
                written += block[name].shape[1]
        if not written:
            raise InputError("the mixture has no audio samples", "check that the file is complete")
        for writer in writers.values():
            writer.commit()
    return {name: _open(folder, name) for name in stems}


def _open(folder: Path, name: str) -> Named:
    label = f"the estimate of {name}"
    return Named(label, open_source(folder / f"{name}{_SUFFIX}", name=label))
