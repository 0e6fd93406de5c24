"""Batches of examples, made ahead by worker processes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from stemwright.training.data.examples import Example, Source


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The examples of one step.

    Parameters
    ----------
    step
        Counted from 0.
    mixture
        float32, shape=(batch, channels, samples).
    targets
        float32, shape=(batch, sources, channels, samples).
    condition
        float32, shape=(batch, D), or None.
    """

    step: int
    mixture: Tensor
    targets: Tensor
    condition: Tensor | None = None

    def pin_memory(self) -> Self:
        """Return it in memory that a GPU copies from without waiting."""
        return type(self)(
            step=self.step,
            mixture=self.mixture.pin_memory(),
            targets=self.targets.pin_memory(),
            condition=None if self.condition is None else self.condition.pin_memory(),
        )

    def to(self, device: torch.device | str) -> Self:
        """Return it on a device; the copy of a pinned batch does not wait."""
        return type(self)(
            step=self.step,
            mixture=self.mixture.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            condition=None if self.condition is None else self.condition.to(device, non_blocking=True),
        )


def collate(step: int, examples: list[Example]) -> Batch:
    """Stack examples."""
    conditions = [one.condition for one in examples if one.condition is not None]
    return Batch(
        step=step,
        mixture=torch.from_numpy(np.stack([one.mixture for one in examples])),
        targets=torch.from_numpy(np.stack([one.targets for one in examples])),
        condition=torch.from_numpy(np.stack(conditions)) if conditions else None,
    )


def make_batch(source: Source, seed: int, step: int, batch_size: int, *, first_index: int = 0) -> Batch:
    """Draw the batch of a step.

    Parameters
    ----------
    first_index
        Index of its first example: several processes that share a step take indices one after another.
    """
    indices = range(first_index, first_index + batch_size)
    return collate(step, [source.example(seed, step, index) for index in indices])


def batches(
    source: Source,
    *,
    seed: int,
    batch_size: int,
    start_step: int = 0,
    end_step: int | None = None,
    first_index: int = 0,
    workers: int = 0,
    pin: bool = False,
    ahead: int = 2,
) -> Iterator[Batch]:
    """Yield the batches of the steps from `start_step` on, in order.

    They depend on the source, the seed and the step alone: not on where a run starts nor on the workers.

    Parameters
    ----------
    source
        What draws the examples; it is sent to the workers once.
    seed
        The run's seed.
    batch_size
        Examples a batch.
    start_step, end_step
        The first step and the one behind the last; without an end they go on for ever.
    first_index
        As for `make_batch`.
    workers
        Processes that make batches ahead, each a whole one; 0 makes them here when they are asked for.
    pin
        Give them in pinned memory, if there is a GPU.
    ahead
        Batches that each worker makes ahead.
    """
    data = _Steps(source, seed=seed, batch_size=batch_size, first_index=first_index)
    loader: DataLoader[Batch] = DataLoader(
        data,
        batch_size=None,
        sampler=_From(start_step, end_step),
        num_workers=workers,
        prefetch_factor=ahead if workers else None,
        pin_memory=pin and torch.cuda.is_available(),
        worker_init_fn=_one_thread if workers else None,
    )
    return cast("Iterator[Batch]", iter(loader))


class _Steps(Dataset[Batch]):
    """The batch of each step."""

    def __init__(self, source: Source, *, seed: int, batch_size: int, first_index: int) -> None:
        self._source = source
        self._seed = seed
        self._batch_size = batch_size
        self._first_index = first_index

    def __getitem__(self, step: int) -> Batch:
        return make_batch(self._source, self._seed, step, self._batch_size, first_index=self._first_index)


class _From(Sampler[int]):
    """Steps from a first one on."""

    def __init__(self, start: int, end: int | None) -> None:
        self._start = start
        self._end = end

    def __iter__(self) -> Iterator[int]:
        step = self._start
        while self._end is None or step < self._end:
            yield step
            step += 1


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)  # the workers are the parallelism
