"""Which estimate is scored against which reference: by name, with sums where names call for them.

`vocals` and `accompaniment` go under several names. Where the references are these two only, the estimates of
all stems but the vocals add up to the accompaniment; and the other way round.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stemwright.core.errors import InputError
from stemwright.eval.datasets.contract import ACCOMPANIMENT, VOCALS

_OTHER_NAMES = {
    VOCALS: ("vocals", "vocal", "voice", "singing"),
    ACCOMPANIMENT: ("accompaniment", "no_vocals", "instrumental", "instruments", "karaoke"),
}


@dataclass(frozen=True, kw_only=True)
class ScoredStem:
    """A stem that is scored: the sum of some references against the sum of some estimates."""

    name: str
    references: tuple[str, ...]
    estimates: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class StemPlan:
    """What is scored, and what is not and why."""

    stems: tuple[ScoredStem, ...]
    notes: tuple[str, ...] = ()

    @property
    def estimates(self) -> tuple[str, ...]:
        """Names of all estimates that are needed, each once."""
        return tuple(dict.fromkeys(name for stem in self.stems for name in stem.estimates))


def plan_stems(references: Sequence[str], estimates: Sequence[str]) -> StemPlan:
    """Pair references and estimates by name.

    Raises
    ------
    InputError
        They have no stem in common.
    """
    true, found = _by_meaning(references), _by_meaning(estimates)
    stems = [
        ScoredStem(name=name, references=(name,), estimates=(found[meaning],))
        for meaning, name in true.items()
        if meaning in found
    ]
    notes: list[str] = []
    if VOCALS in true and VOCALS in found:
        stems += _accompaniment(true, found, notes)
    used = {name for stem in stems for name in stem.references}
    needed = {name for stem in stems for name in stem.estimates}
    if not stems:
        raise InputError(
            f"the data has {', '.join(references)}, the estimates are {', '.join(estimates)}: none in common",
            "score a model of these stems",
        )
    notes += [f"{name} is not scored: there is no estimate" for name in references if name not in used]
    notes += [f"{name} is not scored: there is no reference" for name in estimates if name not in needed]
    return StemPlan(stems=tuple(stems), notes=tuple(notes))


def _accompaniment(true: dict[str, str], found: dict[str, str], notes: list[str]) -> list[ScoredStem]:
    """Return the accompaniment as a sum, on the side that has no stem of that name."""
    others_true = tuple(name for meaning, name in true.items() if meaning != VOCALS)
    others_found = tuple(name for meaning, name in found.items() if meaning != VOCALS)
    if set(true) == {VOCALS, ACCOMPANIMENT} and ACCOMPANIMENT not in found and others_found:
        notes.append(f"the accompaniment's estimate is the sum of {', '.join(others_found)}")
        return [
            ScoredStem(name=true[ACCOMPANIMENT], references=(true[ACCOMPANIMENT],), estimates=others_found)
        ]
    if ACCOMPANIMENT in found and ACCOMPANIMENT not in true and others_true:
        notes.append(f"the accompaniment's reference is the sum of {', '.join(others_true)}")
        return [ScoredStem(name=ACCOMPANIMENT, references=others_true, estimates=(found[ACCOMPANIMENT],))]
    return []


def _by_meaning(names: Sequence[str]) -> dict[str, str]:
    """Names by what they mean; of two that mean the same, the second keeps its own name as meaning."""
    found: dict[str, str] = {}
    for name in names:
        meaning = next((key for key, others in _OTHER_NAMES.items() if name.lower() in others), name)
        found[name if meaning in found else meaning] = name
    return found
