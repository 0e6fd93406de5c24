"""Which stems are scored together: vocals and accompaniment are a pair of their own, as museval has it.

An accompaniment is the sum of other stems: together with them it would make the equations singular. Given
vocals, an accompaniment and other stems, the stems are scored without the accompaniment, and the pair
beside them; the pair's numbers stand for the vocals (museval 0.4.1, `eval_mus_track`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stemwright.eval.bss_eval.images import METRICS, ImageScores, ImagesOptions, Pairs, score_images
from stemwright.eval.bss_eval.projection import Doubles

VOCALS, ACCOMPANIMENT = PAIR = ("vocals", "accompaniment")


def score_scenarios(pairs: Pairs, options: ImagesOptions | None = None) -> ImageScores:
    """Score every stem in the company that it belongs to; see score_images."""
    singles = tuple(name for name in pairs.names if name != ACCOMPANIMENT)
    if not set(PAIR) <= set(pairs.names) or len(singles) == 1:
        return score_images(pairs, options)
    together, duo = (score_images(Chosen(pairs, names), options) for names in (singles, PAIR))
    values = np.empty((len(METRICS), len(pairs.names), together.values.shape[2]))
    for index, name in enumerate(pairs.names):
        found = duo if name in PAIR else together
        values[:, index] = found.values[:, found.names.index(name)]
    reasons = {name: why for name, why in together.reasons.items() if name not in PAIR} | duo.reasons
    return ImageScores(
        names=pairs.names,
        values=values,
        window_s=together.window_s,
        hop_s=together.hop_s,
        reasons=reasons,
    )


@dataclass(frozen=True)
class Chosen:
    """Some of the pairs; see images.Pairs."""

    pairs: Pairs
    names: tuple[str, ...]

    @property
    def samples(self) -> int:
        """Length T."""
        return self.pairs.samples

    @property
    def sample_rate(self) -> int:
        """Rate in Hz."""
        return self.pairs.sample_rate

    def blocks(self, size: int) -> Iterator[tuple[Doubles, Doubles]]:
        """See Pairs.blocks."""
        rows = [self.pairs.names.index(name) for name in self.names]
        for references, estimates in self.pairs.blocks(size):
            yield references[rows], estimates[rows]
