"""Position codes against those of the reference implementation, at the sizes that are used."""

import numpy as np
import pytest
from demucs.transformer import create_2d_sin_embedding, create_sin_embedding

from stemwright.core.arrays import FloatArray
from stemwright.models.graphs.position_codes import sinusoid_1d, sinusoid_2d


def assert_as_close_as_float32_allows(found: FloatArray, reference: FloatArray, positions: int) -> None:
    """A rate that torch rounds to its other neighbour moves a phase by a unit in its last place."""
    difference = np.abs(found - reference)
    assert difference.max() < 1.5 * positions * 2.0**-23
    assert np.mean(difference < 2e-7) > 0.9


@pytest.mark.parametrize(("length", "dim"), [(1344, 512), (1344, 384), (7, 8)])
def test_sequence(length: int, dim: int) -> None:
    reference = create_sin_embedding(length, dim)[:, 0].numpy()
    assert_as_close_as_float32_allows(sinusoid_1d(length=length, dim=dim), reference, length)


@pytest.mark.parametrize(("frames", "bins", "dim"), [(336, 8, 512), (336, 8, 384), (3, 5, 8)])
def test_grid(frames: int, bins: int, dim: int) -> None:
    made = create_2d_sin_embedding(dim, bins, frames)  # type: ignore[no-untyped-call]
    reference = made[0].numpy().transpose(2, 1, 0)
    parts = (sinusoid_2d(count=frames, dim=dim, half=0), sinusoid_2d(count=bins, dim=dim, half=1))
    assert_as_close_as_float32_allows(parts[0][:, None] + parts[1][None], reference, frames)
