"""Separation of whole recordings in the chunks that the engine cuts them into."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from stemwright.models.manifest import ChunkPlan
from stemwright.models.separation.plan import Chunk, TrackPlan


def separate_in_chunks(separate: Callable[[Tensor], Tensor], mixture: Tensor, plan: ChunkPlan) -> Tensor:
    """Separate chunk by chunk and cross-fade.

    Parameters
    ----------
    separate
        From a window, shape=(B, C, plan.input_samples), to its output, shape=(B, S, C, plan.output_samples).
    mixture
        Recordings of one length, shape=(B, C, T).
    plan
        The model's.

    Returns
    -------
    Tensor
        shape=(B, S, C, T).
    """
    samples = mixture.shape[-1]
    track = TrackPlan(call=plan, frames=samples, overlap=plan.overlap)
    window = torch.from_numpy(track.window).to(mixture.device)
    total: Tensor | None = None
    weights = mixture.new_zeros(samples)
    for chunk in track.chunks():
        made = separate(_window(mixture, chunk))[..., chunk.skip : chunk.skip + chunk.length]
        weight = window[: chunk.length]
        if total is None:
            total = made.new_zeros(*made.shape[:-1], samples)
        span = slice(chunk.start, chunk.start + chunk.length)
        total[..., span] += made * weight
        weights[span] += weight
    if total is None:
        raise ValueError("a recording of no samples")
    return total / weights


def _window(mixture: Tensor, chunk: Chunk) -> Tensor:
    """Sound of a call, zeros outside the recording."""
    samples = mixture.shape[-1]
    start, end = chunk.window_start, chunk.window_start + chunk.window_samples
    inside = mixture[..., max(0, start) : min(samples, end)]
    return functional.pad(inside, (max(0, -start), max(0, end - samples)))
