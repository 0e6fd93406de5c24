"""Pairs of sound events that are mixed and asked for: training without clean sources.

References
----------
Q. Kong et al., "Universal Source Separation with Weakly Labelled Data", arXiv 2305.07447, and the code
bytedance/uss: balanced sampling of classes, anchor segments, energy-matched mixing.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InputError, OptionError
from stemwright.training.data import draws
from stemwright.training.data.examples import Example
from stemwright.training.data.pack import Pack

_LEAST_ENERGY = 1e-10
_GAINS = (0.02, 50.0)
_FAINTEST = 0.1

Condition = Literal["probabilities", "embedding"]


@dataclass(frozen=True, kw_only=True)
class EventRules:
    """How pairs are drawn.

    Parameters
    ----------
    batch_size
        Examples a step: the partner of each is the target of the next one, the last one's is the first's.
    condition
        What the network is asked with: the tagger's probabilities of the clean target, or its embedding.
    asked_share
        Share of the examples that are asked for as a served model is, by a class: the probabilities of all
        classes outside its branch are zero, and the others up to 20 dB smaller, since what a tagger hears of
        a sound in a mixture is fainter.
    snr_db
        The target's energy over the partner's is uniform in +-snr_db; the paper's is 0.
    level_db
        Range of a gain of the whole example, so that a network learns no level.
    samples
        Length of an example; None is that of the pack's anchors, and no other is possible: conditions belong
        to whole anchors.
    """

    batch_size: int = 16
    condition: Condition = "probabilities"
    asked_share: float = 0.0
    snr_db: float = 0.0
    level_db: tuple[float, float] = (0.0, 0.0)
    samples: int | None = None


def matched_gain(target: FloatArray, partner: FloatArray) -> float:
    """Return the factor that gives the partner the target's energy, within 0.02..50."""
    energies = [float(np.square(one, dtype=np.float64).mean()) for one in (target, partner)]
    return float(np.clip(np.sqrt(energies[0] / max(energies[1], _LEAST_ENERGY)), *_GAINS))


class EventPairs:
    """A sound event in another one, with what the tagger says of the clean one as condition.

    All classes are drawn in random order, then reshuffled, and so on; each draw of a class takes the next of
    its anchors.

    Parameters
    ----------
    pack
        Of events, with anchors.
    rules
        How to draw.

    Raises
    ------
    InputError
        No anchors, or fewer than two classes.
    OptionError
        Queries by class of a pack that cannot make them.
    """

    def __init__(self, pack: Pack, rules: EventRules | None = None) -> None:
        self.rules = rules or EventRules()
        self.pack = pack
        if pack.index.anchors is None:
            raise InputError(f"the pack {pack.folder} has no anchors", "pack the events with --tagger")
        self._table = pack.index.anchors
        if self.rules.samples not in (None, self._table.segment):
            raise InputError(
                f"the anchors of {pack.folder} have {self._table.segment} samples, not {self.rules.samples}",
                "train on segments of that length, or pack the events again",
            )
        if self.rules.asked_share and (self.rules.condition != "probabilities" or not self._table.branches):
            raise OptionError(
                "only probabilities are asked for by class, from packs that know the classes' branches",
                "set asked_share = 0, or pack the events again",
            )
        if len(self.labels) < 2:
            raise InputError(f"the pack {pack.folder} has fewer than two classes", "give more classes")

    @property
    def names(self) -> tuple[str, ...]:
        """The one target."""
        return ("target",)

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.pack.sample_rate

    @property
    def condition_size(self) -> int:
        """Values of a condition."""
        by_kind = {"probabilities": len(self._table.classes), "embedding": self._table.embedding_size}
        return by_kind[self.rules.condition]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The classes of this part of the pack."""
        return tuple(self.anchors)

    @cached_property
    def anchors(self) -> dict[str, tuple[int, ...]]:
        """Numbers of the anchors of each class in this part of the pack."""
        mine = frozenset(self.pack.numbers)
        found: dict[str, list[int]] = {}
        for number, anchor in enumerate(self._table.anchors):
            if anchor.recording in mine:
                found.setdefault(anchor.label, []).append(number)
        return {label: tuple(found[label]) for label in sorted(found)}

    def example(self, seed: int, step: int, index: int) -> Example:
        """Draw a pair; the targets have shape=(1, channels, samples).

        An index behind the batch is one of a later step.
        """
        size = self.rules.batch_size
        step, index = step + index // size, index % size
        first, second = (self._drawn(seed, step * size + place) for place in (index, (index + 1) % size))
        rng = draws.generator(seed, "asked", step, index)
        by_class, share = rng.random() < self.rules.asked_share, float(_FAINTEST ** rng.random())
        over = rng.uniform(-self.rules.snr_db, self.rules.snr_db)
        made = self.pair(first, second, snr_db=over, gain_db=rng.uniform(*self.rules.level_db))
        return replace(made, condition=self.asked(first, share)) if by_class else made

    def pair(self, target: int, partner: int, *, snr_db: float = 0.0, gain_db: float = 0.0) -> Example:
        """Mix two anchors, by their numbers; `snr_db` is the target's energy over the partner's."""
        gain = np.float32(10 ** (gain_db / 20))
        wanted, other = self.segment(target) * gain, self.segment(partner) * gain
        mixture = wanted + other * np.float32(matched_gain(wanted, other) * 10 ** (-snr_db / 20))
        return Example(mixture=mixture, targets=wanted[None], condition=self.condition(target))

    def segment(self, anchor: int) -> FloatArray:
        """Return the samples of an anchor, shape=(channels, samples)."""
        found = self._table.anchors[anchor]
        return self.pack.read(found.recording, found.start, self._table.segment)

    def condition(self, anchor: int) -> FloatArray:
        """Return what the network is asked with for an anchor, shape=(condition_size,)."""
        values = self.pack.anchor_values(anchor)
        classes = len(self._table.classes)
        return values[:classes] if self.rules.condition == "probabilities" else values[classes:]

    def asked(self, anchor: int, share: float = 1.0) -> FloatArray:
        """Return the condition of a query for the anchor's class alone, times `share`; probabilities only."""
        values = self.condition(anchor)
        places = list(self._table.branches[self._table.anchors[anchor].label])
        asked = np.zeros_like(values)
        asked[places] = values[places] * np.float32(share)
        return asked

    def _drawn(self, seed: int, number: int) -> int:
        """Return the `number`-th anchor of the run."""
        label = draws.nth_of_rounds(number, len(self.labels), seed, "classes")
        of_class = self.anchors[self.labels[label]]
        turn = number // len(self.labels)
        return of_class[draws.nth_of_rounds(turn, len(of_class), seed, "anchors", label)]
