"""Reading of a track in step: references, estimates and the mixture."""

from collections.abc import Iterator, Sequence

import numpy as np

from stemwright.core.errors import InputError
from stemwright.eval.bss_eval.projection import Doubles
from stemwright.eval.measures.contract import BLOCK_S, Track


def pair_blocks(track: Track) -> Iterator[tuple[Doubles, Doubles]]:
    """Yield references and estimates, shapes=(J, C, n), of about a second each.

    Raises
    ------
    InputError
        A value that is not finite, or no samples at all.
    """
    size = max(1, round(BLOCK_S * track.pairs.sample_rate))
    for references, estimates in track.pairs.blocks(size):
        _require_finite(track.pairs.names, references, "reference")
        _require_finite(track.pairs.names, estimates, "estimate")
        yield references, estimates
    if not track.pairs.samples:
        raise InputError("the audio has no samples", "check the files")


def mixed_blocks(track: Track) -> Iterator[tuple[Doubles, Doubles, Doubles]]:
    """Yield references, estimates and the mixture of the same samples, shape=(C, n).

    A mixture that is longer is cut at the end.

    Raises
    ------
    InputError
        The mixture is shorter or has other channels, or a value is not finite.
    """
    if track.mixture is None:
        raise InputError("there is no mixture", "give one")
    held = np.zeros((0, 0))
    stream = track.mixture.blocks(max(1, round(BLOCK_S * track.pairs.sample_rate)))
    for references, estimates in pair_blocks(track):
        channels, count = references.shape[1:]
        while held.shape[1] < count:
            block = next(stream, None)
            if block is None:
                raise InputError("the mixture is shorter than the stems", "give the mixture of these stems")
            if len(block) != channels:
                raise InputError(
                    f"the mixture has {len(block)} channels, the stems {channels}", "give one of both forms"
                )
            new = np.asarray(block, np.float64)
            held = np.concatenate([held, new], axis=1) if held.size else new
        mixture, held = held[:, :count], held[:, count:]
        _require_finite(("mixture",), mixture[None], "recording")
        yield references, estimates, mixture


def _require_finite(names: Sequence[str], blocks: Doubles, what: str) -> None:
    good = np.isfinite(blocks).all(axis=(1, 2))
    if not good.all():
        name = names[int(np.argmin(good))]
        raise InputError(f"the {what} {name} holds values that are not finite", "write the file again")
