"""References and estimates as sources, checked to belong together and read in step.

Rates and channels must be the same. Lengths may differ by less than a frame of BSS Eval (1 s), which is
trimmed and told; more is an error that names both.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize

from stemwright.core.audio.source import AudioSource
from stemwright.core.errors import InputError
from stemwright.eval.bss_eval.projection import Doubles
from stemwright.eval.datasets.sources import Named, require_one_form

_LOG = logging.getLogger(__name__)
_FRAME_S = 1.0
_BLOCK_FRAMES = 65_536
_WORST_DB, _BEST_DB = -200.0, 300.0
"""Bounds of SI-SDR in the search for the order, so that exact and empty estimates can be summed."""


@dataclass(frozen=True)
class SourcePairs:
    """Pairs of sources of one track; see bss_eval.images.Pairs.

    Parameters
    ----------
    names
        The stems.
    references, estimates
        In the order of the names.
    samples
        Length that all have, in samples; what is longer is cut there.
    sample_rate
        In Hz.
    notes
        What was cut.
    """

    names: tuple[str, ...]
    references: tuple[AudioSource, ...]
    estimates: tuple[AudioSource, ...]
    samples: int
    sample_rate: int
    notes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Channels of each."""
        return self.references[0].info.channels

    def blocks(self, size: int) -> Iterator[tuple[Doubles, Doubles]]:
        """Yield references and estimates from the start, shapes=(J, C, size); the last may be shorter."""
        streams = [source.blocks(size) for source in (*self.references, *self.estimates)]
        try:
            for start in range(0, self.samples, size):
                count = min(size, self.samples - start)
                parts = [np.asarray(next(stream)[:, :count], np.float64) for stream in streams]
                yield np.stack(parts[: len(self.names)]), np.stack(parts[len(self.names) :])
        finally:
            for stream in streams:
                if hasattr(stream, "close"):
                    stream.close()


def pair_sources(
    names: Sequence[str], references: Sequence[Named], estimates: Sequence[Named]
) -> SourcePairs:
    """Check references and estimates against each other; all are read once.

    Raises
    ------
    InputError
        Rates, channels or lengths differ, or a source cannot be read or has values that are not finite.
    """
    everything = (*references, *estimates)
    require_one_form(everything)
    rate = references[0].source.info.sample_rate
    lengths = {named.name: _length(named.source) for named in everything}
    shortest = min(lengths, key=lengths.__getitem__)
    longest = max(lengths, key=lengths.__getitem__)
    difference = lengths[longest] - lengths[shortest]
    if difference >= _FRAME_S * rate:
        raise InputError(
            f"{longest} is {difference / rate:.1f} s longer than {shortest}",
            "score stems of the same recording",
        )
    notes = []
    if difference:
        notes.append(f"{longest} is {difference} samples longer than {shortest}: trimmed")
        _LOG.warning("%s", notes[0])
    return SourcePairs(
        names=tuple(names),
        references=tuple(named.source for named in references),
        estimates=tuple(named.source for named in estimates),
        samples=lengths[shortest],
        sample_rate=rate,
        notes=tuple(notes),
    )


def _length(source: AudioSource) -> int:
    """Count the samples by decoding, since headers may be wrong."""
    return sum(int(block.shape[1]) for block in source.blocks(_BLOCK_FRAMES))


def best_order(references: Sequence[Named], estimates: Sequence[Named]) -> tuple[int, ...]:
    """Find which estimate belongs to which reference: the assignment of the best mean SI-SDR.

    Parameters
    ----------
    references
        J signals.
    estimates
        K >= J signals of the same form.

    Returns
    -------
    tuple
        For each reference the index of its estimate.

    Raises
    ------
    InputError
        Fewer estimates than references, or another form.
    """
    if len(estimates) < len(references):
        raise InputError(
            f"there are {len(estimates)} estimates of {len(references)} stems",
            "score a model of at least as many stems",
        )
    require_one_form((*references, *estimates))
    rows, columns = scipy.optimize.linear_sum_assignment(_si_sdrs(references, estimates), maximize=True)
    order = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    return tuple(order[row] for row in range(len(references)))


def _si_sdrs(references: Sequence[Named], estimates: Sequence[Named]) -> Doubles:
    """SI-SDR of each estimate against each reference in dB, shape=(J, K): the mean over channels."""
    channels = references[0].source.info.channels
    products = np.zeros((channels, len(references), len(estimates)))
    true, found = np.zeros((channels, len(references), 1)), np.zeros((channels, 1, len(estimates)))
    streams = [named.source.blocks(_BLOCK_FRAMES) for named in (*references, *estimates)]
    for parts in zip(*streams, strict=False):
        count = min(part.shape[1] for part in parts)
        block = np.stack([part[:, :count] for part in parts]).astype(np.float64)
        s, e = block[: len(references)], block[len(references) :]
        products += np.einsum("jct,kct->cjk", s, e)
        true += np.square(s).sum(axis=-1).T[:, :, None]
        found += np.square(e).sum(axis=-1).T[:, None, :]
    explained = np.divide(np.square(products), true, out=np.zeros_like(products), where=true > 0)
    rest = np.maximum(found - explained, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = 10 * np.log10(explained) - 10 * np.log10(rest)
    return np.asarray(np.nan_to_num(ratios.clip(_WORST_DB, _BEST_DB), nan=_WORST_DB).mean(axis=0))
