"""The contract that every model file has to keep, as a check of a manifest and its session.

`models import` runs it before a model is installed, and the test suite runs it over every family.
It needs no training framework: only the session that will serve the model.

============  ======================================================================================
manifest      it says the same after writing and reading, and its plan advances
signature     a call takes what the manifest says and gives finite stems of the shape it says
determinism   the same call gives the same bits again
batch         windows in one batch give what they give alone
length        recordings of one sample and of one sample more than a chunk keep their length
silence       silence gives silence
block         the size of the blocks a recording is read in does not change the stems
============  ======================================================================================
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import ArraySource
from stemwright.core.errors import ModelFileError, StemwrightError
from stemwright.models.manifest import Graph, Manifest, Precision, parse_manifest
from stemwright.models.separation.members import Member
from stemwright.models.separation.plan import TrackPlan
from stemwright.models.separation.separator import SeparationOptions, Separator
from stemwright.models.sessions.opening import Session, SessionFacts

CheckName = Literal["manifest", "signature", "determinism", "batch", "length", "silence", "block"]
Outcome = Literal["kept", "broken", "not tried"]

_LEVEL = 0.1
_SMALL_BLOCK = 997
_TOLERANCES: Mapping[Precision, float] = {"float32": 1e-5, "bfloat16": 3e-2, "float16": 1e-2, "int8": 1e-1}
"""Largest difference relative to the largest stem sample, by the session's precision: another batch
or another rounding of the track's mean may change the last bits. Chosen here."""
_BATCH_FACTOR = 10
"""Batches may differ by this much more: the kernels may sum in another order. Chosen here."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Outcome of one check, and what was wrong or why it was not tried."""

    check: CheckName
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ContractReport:
    """Findings of all checks of a model."""

    model: str
    findings: tuple[Finding, ...]

    @property
    def kept(self) -> bool:
        """Whether no part of the contract is broken."""
        return all(finding.outcome != "broken" for finding in self.findings)

    def require(self) -> None:
        """Raise ModelFileError with the first broken part, if there is one."""
        for finding in self.findings:
            if finding.outcome == "broken":
                raise ModelFileError(
                    f"{self.model} breaks the model contract ({finding.check}): {finding.reason}",
                    "mend the export or the manifest",
                )


class _BrokenError(Exception):
    """A check found the contract broken."""


class _NotTriedError(Exception):
    """A check cannot be made with this session."""


def check_contract(
    manifest: Manifest,
    session: Session,
    *,
    batch_size: int | None = None,
    progress: Callable[[CheckName], None] | None = None,
) -> ContractReport:
    """Check a model; about ten windows go through its network.

    Parameters
    ----------
    manifest
        What the model says of itself.
    session
        Its opened graph; it stays open.
    batch_size
        Windows in the batch of the batch check; None for 2 where the session takes that many.
    progress
        Called with the name of each check before it begins.

    Returns
    -------
    ContractReport
        One finding a check. A model whose calls fail is not tried any further.
    """
    trial = _Trial(manifest=manifest, session=session, batch_size=batch_size)
    findings: list[Finding] = []
    checks: dict[CheckName, Callable[[_Trial], None]] = {
        "manifest": _check_manifest,
        "signature": _check_signature,
        "determinism": _check_determinism,
        "batch": _check_batch,
        "length": _check_length,
        "silence": _check_silence,
        "block": _check_block,
    }
    for name, check in checks.items():
        if any(finding.outcome == "broken" for finding in findings):
            findings.append(Finding(check=name, outcome="not tried", reason="an earlier check failed"))
            continue
        if progress is not None:
            progress(name)
        findings.append(_finding(name, check, trial))
    return ContractReport(model=manifest.name, findings=tuple(findings))


def _finding(name: CheckName, check: "Callable[[_Trial], None]", trial: "_Trial") -> Finding:
    try:
        check(trial)
    except _NotTriedError as reason:
        return Finding(check=name, outcome="not tried", reason=str(reason))
    except _BrokenError as reason:
        return Finding(check=name, outcome="broken", reason=str(reason))
    except StemwrightError as error:
        return Finding(check=name, outcome="broken", reason=error.message)
    return Finding(check=name, outcome="kept")


@dataclass(kw_only=True)
class _Trial:
    """A model under test, with the results that several checks need."""

    manifest: Manifest
    session: Session
    batch_size: int | None
    member: Member = field(init=False)

    def __post_init__(self) -> None:
        self.member = Member(
            name=self.manifest.name,
            manifest=self.manifest,
            gains=dict.fromkeys(self.manifest.stems, 1.0),
            opener=lambda: _Borrowed(self.session),
        )

    @cached_property
    def facts(self) -> SessionFacts:
        return self.session.facts

    @cached_property
    def window_stems(self) -> FloatArray:
        """Stems of the first window alone."""
        return self.call(self.windows(1))

    @cached_property
    def track(self) -> FloatArray:
        """A recording one sample longer than a chunk."""
        return _noise(self.manifest.audio.channels, self.manifest.plan.output_samples + 1, seed=100)

    @cached_property
    def track_stems(self) -> FloatArray:
        """Stems of that recording, shape=(stems, channels, n)."""
        return self.separate(self.track)

    def windows(self, count: int) -> FloatArray:
        """Windows of noise, the first ones always the same, shape=(count, channels, samples)."""
        plan = self.manifest.plan
        return np.stack(
            [_noise(self.manifest.audio.channels, plan.input_samples, seed=seed) for seed in range(count)]
        )

    def call(self, windows: FloatArray) -> FloatArray:
        """Stems of a batch of windows, shape=(batch, stems, channels, samples)."""
        inputs = self.member.prepare(windows)
        outputs = self.member.run(inputs.arrays)
        stems = self.member.recover(outputs, inputs.spectrum, range(len(self.manifest.stems)))
        if stems.shape[0] != windows.shape[0]:
            raise _BrokenError(f"{windows.shape[0]} windows gave stems of {stems.shape[0]}")
        return stems

    def separate(self, samples: FloatArray, block_frames: int = 65_536) -> FloatArray:
        """Stems of a recording at the model's rate, shape=(stems, channels, n)."""
        source = ArraySource(samples, self.manifest.audio.sample_rate)
        options = SeparationOptions(block_frames=block_frames)
        with (
            Separator([self.member], self.manifest.stems) as separator,
            separator.separate(source, options) as separation,
        ):
            blocks = [np.stack(list(block.stems.values())) for block in separation]
        return np.concatenate(blocks, axis=-1)

    def compare(self, found: FloatArray, expected: FloatArray, what: str, factor: float = 1) -> None:
        """Raise _BrokenError if two results differ by more than the precision explains."""
        scale = max(float(np.abs(expected).max()), 1e-6)
        difference = float(np.abs(found - expected).max()) / scale
        if difference > _TOLERANCES[self.facts.precision] * factor:
            raise _BrokenError(f"{what} changes the stems by {difference:.1e} of their peak")


@dataclass(frozen=True)
class _Borrowed:
    """The session under test, which the separators of a trial do not close."""

    session: Session

    @property
    def facts(self) -> SessionFacts:
        return self.session.facts

    @property
    def graph(self) -> Graph:
        return self.session.graph

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        return self.session.run(inputs)

    def close(self) -> None:
        return


def _check_manifest(trial: _Trial) -> None:
    manifest = trial.manifest
    if parse_manifest(manifest.model_dump_json(), where="the manifest") != manifest:
        raise _BrokenError("it changes when it is written and read")
    TrackPlan(call=manifest.plan, frames=1, overlap=manifest.plan.overlap)


def _check_signature(trial: _Trial) -> None:
    stems = trial.window_stems
    if not np.abs(stems).max() > 0:
        raise _BrokenError("noise gives only silent stems")


def _check_determinism(trial: _Trial) -> None:
    if not np.array_equal(trial.call(trial.windows(1)), trial.window_stems):
        raise _BrokenError("the same call gives other stems the second time")


def _check_batch(trial: _Trial) -> None:
    count = trial.batch_size or min(2, trial.facts.batch_limit)
    if trial.session.graph.batch == "one" or count < 2:
        raise _NotTriedError("the session takes one window at a time")
    windows = trial.windows(count)
    together = trial.call(windows)
    for index in range(count):
        alone = trial.window_stems[0] if index == 0 else trial.call(windows[index : index + 1])[0]
        trial.compare(together[index], alone, f"a batch of {count}", _BATCH_FACTOR)


def _check_length(trial: _Trial) -> None:
    for samples, stems in (
        (trial.track, trial.track_stems),
        (trial.track[:, :1], trial.separate(trial.track[:, :1])),
    ):
        if stems.shape[1:] != samples.shape:
            raise _BrokenError(f"a recording of shape {samples.shape} gave stems of {stems.shape[1:]}")


def _check_silence(trial: _Trial) -> None:
    if trial.separate(np.zeros_like(trial.track)).any():
        raise _BrokenError("silence gives sound")


def _check_block(trial: _Trial) -> None:
    small = trial.separate(trial.track, min(_SMALL_BLOCK, trial.track.shape[1] // 2 + 1))
    trial.compare(small, trial.track_stems, "the size of the blocks that are read")


def _noise(channels: int, samples: int, *, seed: int) -> FloatArray:
    generator = np.random.default_rng(seed)
    return np.asarray(generator.standard_normal((channels, samples)) * _LEVEL, np.float32)
