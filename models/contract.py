"""The contract that every model file has to keep, as a check of a manifest and its session.

`models import` runs it before a model is installed, and the test suite runs it over every family.
It needs no training framework: only the session that will serve the model.

============  ======================================================================================
manifest      it says the same after writing and reading, and its plan advances
signature     a call takes what the manifest says and gives finite stems of the shape it says
determinism   the same call gives the same bits again
condition     another condition gives other stems
state         a window in pieces, each with the state of the one before, gives what it gives at once
batch         windows in one batch give what they give alone
length        recordings of one sample and of one sample more than a chunk keep their length
silence       silence gives silence
block         the size of the blocks a recording is read in does not change the stems
============  ======================================================================================
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stemwright.core.errors import ModelFileError, StemwrightError
from stemwright.models.manifest import Manifest, parse_manifest
from stemwright.models.separation.plan import TrackPlan
from stemwright.models.sessions.opening import Session
from stemwright.models.trial import BrokenError, NotTriedError, Trial

CheckName = Literal[
    "manifest", "signature", "determinism", "condition", "state", "batch", "length", "silence", "block"
]
Outcome = Literal["kept", "broken", "not tried"]

_SMALL_BLOCK = 997
_BATCH_FACTOR = 10
"""Batches may differ by this much more: the kernels may sum in another order. Chosen here."""
_PIECES = 5
"""Pieces that a window is cut into for a network with a state; chosen here."""
_WINDOWS: Mapping[CheckName, int] = {
    "determinism": 1,
    "condition": 1,
    "state": 1,
    "batch": 3,
    "length": 3,
    "block": 2,
}
"""Windows that go through the network in a check, where the check comes to it."""


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


def check_contract(
    manifest: Manifest,
    session: Session,
    *,
    batch_size: int | None = None,
    budget_s: float | None = None,
    progress: Callable[[CheckName], None] | None = None,
) -> ContractReport:
    """Check a model; about ten windows go through its network, two where that takes long.

    Parameters
    ----------
    manifest
        What the model says of itself.
    session
        Its opened graph; it stays open.
    batch_size
        Windows in the batch of the batch check; None for 2 where the session takes that many.
    budget_s
        Seconds that the checks after the first two windows may take together, as the first one tells; a
        check that would take more is not tried. None to try all.
    progress
        Called with the name of each check that applies to the model, before it begins.

    Returns
    -------
    ContractReport
        One finding a check. A model whose calls fail is not tried any further.
    """
    trial = Trial(manifest=manifest, session=session, batch_size=batch_size)
    findings: list[Finding] = []
    spent = 0.0
    for name, check in _CHECKS.items():
        if any(finding.outcome == "broken" for finding in findings):
            findings.append(Finding(check=name, outcome="not tried", reason="an earlier check failed"))
            continue
        cost = _windows(name, manifest) * trial.seconds
        if budget_s is not None and name not in _ALWAYS and spent + cost > budget_s:
            reason = f"a window takes {trial.seconds:.1f} s, the check about {cost:.0f} s"
            findings.append(Finding(check=name, outcome="not tried", reason=reason))
            continue
        if progress is not None and _applies(name, manifest):
            progress(name)
        findings.append(_finding(name, check, trial))
        if name not in _ALWAYS and findings[-1].outcome != "not tried":
            spent += cost
    return ContractReport(model=manifest.name, findings=tuple(findings))


def _windows(name: CheckName, manifest: Manifest) -> int:
    """Windows that go through the network in a check of this model."""
    return _WINDOWS.get(name, 0) if _applies(name, manifest) else 0


def _applies(name: CheckName, manifest: Manifest) -> bool:
    """Whether a check has anything to say of this model."""
    if name == "condition":
        return manifest.query is not None
    return name != "state" or bool(manifest.graph.state)


def _finding(name: CheckName, check: Callable[[Trial], None], trial: Trial) -> Finding:
    try:
        check(trial)
    except NotTriedError as reason:
        return Finding(check=name, outcome="not tried", reason=str(reason))
    except BrokenError as reason:
        return Finding(check=name, outcome="broken", reason=str(reason))
    except StemwrightError as error:
        return Finding(check=name, outcome="broken", reason=error.message)
    return Finding(check=name, outcome="kept")


def _check_manifest(trial: Trial) -> None:
    manifest = trial.manifest
    if parse_manifest(manifest.model_dump_json(), where="the manifest") != manifest:
        raise BrokenError("it changes when it is written and read")
    TrackPlan(call=manifest.plan, frames=1, overlap=manifest.plan.overlap)


def _check_signature(trial: Trial) -> None:
    stems = trial.window_stems
    if not np.abs(stems).max() > 0:
        raise BrokenError("noise gives only silent stems")


def _check_determinism(trial: Trial) -> None:
    if not np.array_equal(trial.call(trial.windows(1)), trial.window_stems):
        raise BrokenError("the same call gives other stems the second time")


def _check_condition(trial: Trial) -> None:
    if trial.manifest.query is None:
        raise NotTriedError("the model takes no queries")
    other = trial.call(trial.windows(1), trial.conditions(1, seed=1))
    if np.array_equal(other, trial.window_stems):
        raise BrokenError("another condition gives the same stems")


def _check_state(trial: Trial) -> None:
    manifest, plan = trial.manifest, trial.manifest.plan
    if not manifest.graph.state:
        raise NotTriedError("the model has no state")
    window = trial.windows(1)[0]
    if plan.time == "fixed":
        raise NotTriedError("calls of one length cannot be cut into shorter ones")
    size = max(1, plan.input_samples // _PIECES // plan.multiple) * plan.multiple
    trial.compare(trial.pieces(window, size), trial.window_stems[0], f"cutting into pieces of {size} samples")


def _check_batch(trial: Trial) -> None:
    count = trial.batch_size or min(2, trial.facts.batch_limit)
    if trial.session.graph.batch == "one" or count < 2:
        raise NotTriedError("the session takes one window at a time")
    windows, conditions = trial.windows(count), trial.conditions(count)
    together = trial.call(windows, conditions)
    for index in range(count):
        span = slice(index, index + 1)
        asked = None if conditions is None else conditions[span]
        alone = trial.window_stems[0] if index == 0 else trial.call(windows[span], asked)[0]
        trial.compare(together[index], alone, f"a batch of {count}", _BATCH_FACTOR)


def _check_length(trial: Trial) -> None:
    for samples, stems in (
        (trial.track, trial.track_stems),
        (trial.track[:, :1], trial.separate(trial.track[:, :1])),
    ):
        if stems.shape[1:] != samples.shape:
            raise BrokenError(f"a recording of shape {samples.shape} gave stems of {stems.shape[1:]}")


def _check_silence(trial: Trial) -> None:
    if trial.separate(np.zeros_like(trial.track)).any():
        raise BrokenError("silence gives sound")


def _check_block(trial: Trial) -> None:
    small = trial.separate(trial.track, min(_SMALL_BLOCK, trial.track.shape[1] // 2 + 1))
    trial.compare(small, trial.track_stems, "the size of the blocks that are read")


_CHECKS: Mapping[CheckName, Callable[[Trial], None]] = {
    "manifest": _check_manifest,
    "signature": _check_signature,
    "determinism": _check_determinism,
    "condition": _check_condition,
    "state": _check_state,
    "batch": _check_batch,
    "length": _check_length,
    "silence": _check_silence,
    "block": _check_block,
}
_ALWAYS: frozenset[CheckName] = frozenset({"manifest", "signature", "determinism"})
