"""The last step: from computed stems to what is handed out, in lockstep with the recording.

Here the recording itself is added to stems that are its remainder, factors are put on stems whose scale
is fitted to it, and the residual or complement is formed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import AudioSource
from stemwright.models.separation.feeds import Lockstep
from stemwright.models.separation.fitting import Gram, StemSpool
from stemwright.models.separation.options import WantedStems


@dataclass(frozen=True, kw_only=True)
class StemBlock:
    """A piece of all stems.

    Parameters
    ----------
    start
        Its first sample in the recording, at the recording's rate.
    stems
        Samples of each stem, float32, shape=(channels of the recording, n).
    """

    start: int
    stems: Mapping[str, FloatArray]

    @property
    def frames(self) -> int:
        """Number of samples n."""
        return int(next(iter(self.stems.values())).shape[1])


class Finisher:
    """Makes the blocks that are handed out of the computed stems.

    Parameters
    ----------
    wanted
        The stems.
    source
        The recording, read once more where it is needed.
    block_frames
        Size of the blocks it is read in.
    shares
        For each computed stem, the factor with which the recording is added to it.
    fitted
        Whether each stem gets a factor, so that their sum is nearest to the recording; nothing is handed
        out then before all stems are there.

    Attributes
    ----------
    received
        Samples of the computed stems that came in.
    position
        Samples that were handed out.
    """

    def __init__(
        self,
        wanted: WantedStems,
        source: AudioSource,
        block_frames: int,
        *,
        shares: tuple[float, ...] | None = None,
        fitted: bool = False,
    ) -> None:
        self._wanted = wanted
        self._source = source
        self._block_frames = block_frames
        self._shares = (0.0,) * len(wanted.computed) if shares is None else shares
        self._fitted = fitted
        self._spool: StemSpool | None = None
        self._lockstep = self._recording()
        self.received = 0
        self.position = 0

    def expect(self, frames: int) -> None:
        """Prepare for a recording of so many samples.

        Raises
        ------
        ResourceError
            No room on the disk for stems that have to wait.
        """
        if self._fitted:
            self._spool = StemSpool(len(self._wanted.computed), self._source.info.channels, frames)

    def add(self, block: FloatArray) -> "Iterator[StemBlock]":
        """Take computed stems, shape=(stems, channels, n > 0), and give what can be handed out."""
        self.received += block.shape[-1]
        if self._spool is None:
            yield self._finish(block)
        else:
            self._spool.append(block)

    def rest(self, check: Callable[[], None]) -> "Iterator[StemBlock]":
        """Give what was held back; `check` is called after every block and may raise to end the work."""
        if self._spool is None:
            return
        gram = Gram(len(self._wanted.computed))
        lockstep = self._recording()
        try:
            for block in self._spool.blocks():
                gram.add(block, lockstep.take(block.shape[-1]))
                check()
        finally:
            lockstep.close()
        factors = gram.factors().astype(np.float32)[:, None, None]
        for block in self._spool.blocks():
            yield self._finish(block * factors)
            check()

    def close(self) -> None:
        """Stop reading the recording and remove what was put aside."""
        self._lockstep.close()
        if self._spool is not None:
            self._spool.close()

    def _recording(self) -> Lockstep:
        return Lockstep(source=self._source, block_frames=self._block_frames)

    def _finish(self, block: FloatArray) -> StemBlock:
        wanted, rest = self._wanted, None
        if wanted.rest is not None or any(self._shares):
            rest = self._lockstep.take(block.shape[-1])
        stems = dict(zip(wanted.computed, block, strict=True))
        for name, share in zip(wanted.computed, self._shares, strict=True):
            if share and rest is not None:
                stems[name] = stems[name] + np.float32(share) * rest
        given = {name: stems[name] for name in wanted.given}
        if wanted.rest is not None and rest is not None:
            for name in wanted.rest_of:
                rest -= stems[name]
            given[wanted.rest] = rest
        start = self.position
        self.position += block.shape[-1]
        return StemBlock(start=start, stems=given)
