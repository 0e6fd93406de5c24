"""What is changed about the sources of a batch, on whatever device it is: Demucs's augmentation.

References
----------
A. Défossez et al., "Music Source Separation in the Waveform Domain", arXiv 1911.13254, and its code
(branch v2): for each source a shift in time, its sign, its channels, its gain, and the song of the batch that
it comes from.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stemwright.training.augmentation.batch_rules import BatchRules
from stemwright.training.data import draws
from stemwright.training.data.batches import Batch


@dataclass(frozen=True, kw_only=True)
class BatchDraw:
    """What was drawn for a batch: each of shape=(batch, sources).

    Parameters
    ----------
    offsets
        First sample, int64.
    signs
        1 or -1, float32.
    swaps
        Whether left and right change places, bool.
    gains
        float32.
    origins
        The example of the batch that a source is taken from, after all else was done to it; int64.
    length
        Samples that are left.
    """

    offsets: Tensor
    signs: Tensor
    swaps: Tensor
    gains: Tensor
    origins: Tensor
    length: int

    def to(self, device: torch.device) -> "BatchDraw":
        """Return it on a device."""
        moved = {
            field.name: getattr(self, field.name).to(device, non_blocking=True)
            for field in dataclasses.fields(self)
            if field.name != "length"
        }
        return dataclasses.replace(self, **moved)


def draw_batch(
    rules: BatchRules,
    *,
    seed: int,
    step: int,
    shape: tuple[int, int, int, int],
    rank: int = 0,
) -> BatchDraw:
    """Draw for the batch of a step.

    Parameters
    ----------
    rules
        What may be drawn.
    seed, step, rank
        The run's seed, the step, and the process among several that share it.
    shape
        (batch, sources, channels, samples) of the targets.

    Raises
    ------
    ValueError
        The examples are no longer than the shift.
    """
    batch, sources, channels, samples = shape
    if samples <= rules.shift:
        raise ValueError(f"examples of {samples} samples cannot be shifted by {rules.shift}")
    rng = draws.generator(seed, "batch", step, rank)
    size = (batch, sources)
    # All is drawn in any case, so that switching one thing off does not change the others.
    offsets = rng.integers(max(1, rules.shift), size=size)
    signs, swaps, gains = rng.random(size), rng.random(size), rng.random(size)
    order = rng.random(size)
    origins = np.tile(np.arange(batch)[:, None], (1, sources))
    if rules.remix_group > 0:
        for first in range(0, batch, rules.remix_group):
            group = slice(first, first + rules.remix_group)
            origins[group] = first + np.argsort(order[group], axis=0)
    low, high = rules.gain or (1.0, 1.0)
    return BatchDraw(
        offsets=torch.from_numpy(offsets),
        signs=torch.from_numpy(np.where(rules.flip_sign & (signs < 0.5), -1, 1).astype(np.float32)),
        swaps=torch.from_numpy(rules.swap_channels & (channels == 2) & (swaps < 0.5)),
        gains=torch.from_numpy((low + (high - low) * gains).astype(np.float32)),
        origins=torch.from_numpy(origins),
        length=samples - rules.shift,
    )


def apply_batch(targets: Tensor, draw: BatchDraw) -> Tensor:
    """Change the sources of a batch.

    Parameters
    ----------
    targets
        shape=(batch, sources, channels, samples); not changed itself.
    draw
        On the same device.

    Returns
    -------
    Tensor
        shape=(batch, sources, channels, draw.length).
    """
    channels = targets.shape[2]
    places = torch.arange(draw.length, device=targets.device) + draw.offsets[..., None, None]
    moved = targets.gather(3, places.expand(-1, -1, channels, -1))
    if channels == 2:
        moved = torch.where(draw.swaps[..., None, None], moved.flip(2), moved)
    moved = moved * (draw.signs * draw.gains)[..., None, None]
    return moved.gather(0, draw.origins[..., None, None].expand_as(moved))


def augmented(batch: Batch, rules: BatchRules, *, seed: int, rank: int = 0) -> Batch:
    """Augment a batch on its device; the mixture is the sum of the changed sources.

    Parameters
    ----------
    batch
        Whose mixture is the sum of its targets.
    rules, seed, rank
        As for `draw_batch`.
    """
    b, s, c, t = batch.targets.shape
    draw = draw_batch(rules, seed=seed, step=batch.step, shape=(b, s, c, t), rank=rank)
    targets = apply_batch(batch.targets, draw.to(batch.targets.device))
    return dataclasses.replace(batch, mixture=targets.sum(dim=1), targets=targets)
