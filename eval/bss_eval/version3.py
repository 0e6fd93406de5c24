"""BSS Eval version 3, images: filters of the signals given, and the order of the estimates found.

Scores of a whole recording are those of version 4 with one frame. Of several windows each is scored anew:
give its samples alone. SIR is the same in both forms of version 3, and with it the order.

References
----------
E. Vincent, "BSS Eval toolbox 3.0"; mir_eval 0.8.2, `separation.bss_eval_images`.
"""

from dataclasses import dataclass

import numpy as np

from stemwright.core.errors import InputError
from stemwright.eval.bss_eval.images import METRICS, ArrayPairs, ImagesOptions, score_images
from stemwright.eval.bss_eval.projection import Doubles
from stemwright.eval.bss_eval.sources import score_sources


@dataclass(frozen=True, kw_only=True)
class WholeImageScores:
    """Scores in dB of each reference's estimate, shape=(J,); NaN where something is silent.

    `permutation[j]` is the estimate that reference j was given.
    """

    sdr: Doubles
    isr: Doubles
    sir: Doubles
    sar: Doubles
    permutation: tuple[int, ...]


def score_whole_images(references: Doubles, estimates: Doubles, *, permute: bool = True) -> WholeImageScores:
    """Score estimates against references over all their samples, as exactly as their equations allow.

    Parameters
    ----------
    references, estimates
        shape=(J, C, T).
    permute
        Give each reference the estimate with which the mean SIR over all is best; else the one in its
        place.

    Raises
    ------
    InputError
        Other shapes, or values that are not finite.
    """
    true, found = np.asarray(references, np.float64), np.asarray(estimates, np.float64)
    if true.ndim != 3 or true.shape != found.shape:
        raise InputError(
            f"references have shape {true.shape}, estimates {found.shape}",
            "give both as (sources, channels, samples)",
        )
    order = tuple(range(len(true)))
    if any(not part.sum(axis=1).any(axis=1).all() for part in (true, found)):
        nothing = np.full(len(true), np.nan)
        return WholeImageScores(sdr=nothing, isr=nothing, sir=nothing, sar=nothing, permutation=order)
    if permute:
        order = score_sources(true, found).permutation
    rate = true.shape[-1]  # one frame of "a second"
    pairs = ArrayPairs(tuple(str(index) for index in order), true, found[list(order)], rate)
    values = score_images(pairs, ImagesOptions(exact=True)).values[:, :, 0]
    rows = dict(zip((metric.lower() for metric in METRICS), values, strict=True))
    return WholeImageScores(**rows, permutation=order)
