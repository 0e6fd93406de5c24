import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from demucs import augment
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stemwright.training.augmentation.batch import BatchDraw, apply_batch, augmented, draw_batch
from stemwright.training.augmentation.batch_rules import BatchRules
from stemwright.training.data.batches import Batch

SHAPE = (8, 3, 2, 200)
ALL = BatchRules(shift=50, flip_sign=True, swap_channels=True, gain=(0.25, 1.25), remix_group=4)


def _targets(shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _given(value: object) -> Callable[..., object]:
    return lambda *_, **__: value


def _reference(targets: Tensor, draw: BatchDraw, patch: pytest.MonkeyPatch) -> Tensor:
    """What the package demucs makes of the same draws, in the paper's order."""
    four = (..., None, None)
    group = draw.origins.reshape(2, 4, 3) % 4
    reference: Any = augment
    steps: list[tuple[Any, str, Any]] = [
        (reference.Shift(shift=50), "randint", _given(draw.offsets[four])),
        (reference.FlipSign(), "randint", _given((draw.signs[four] + 1) / 2)),
        (reference.FlipChannels(), "randint", _given(draw.swaps[four].long())),
        (reference.Scale(), "empty", _given(_Drawn(draw.gains[four]))),
        (reference.Remix(group_size=4), "argsort", _given(group[four])),
    ]
    wave = targets.clone()
    for module, name, drawn in steps:
        with patch.context() as within:
            within.setattr(reference.th, name, drawn)
            within.setattr(random, "random", lambda: 0.0)
            wave = module.train()(wave)
    return wave


class _Drawn:
    def __init__(self, values: Tensor) -> None:
        self._values = values

    def uniform_(self, *_: float) -> Tensor:
        return self._values


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_draw_is_applied_as_the_reference_applies_it(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = _targets()
    draw = draw_batch(ALL, seed=1, step=step, shape=SHAPE)
    torch.testing.assert_close(
        apply_batch(targets, draw), _reference(targets, draw, monkeypatch), rtol=0, atol=0
    )


def test_ranges_of_what_is_drawn() -> None:
    draws = [draw_batch(ALL, seed=1, step=step, shape=SHAPE) for step in range(200)]
    offsets = torch.stack([one.offsets for one in draws])
    gains = torch.stack([one.gains for one in draws])
    assert (int(offsets.min()), int(offsets.max())) == (0, 49)
    assert 0.25 <= float(gains.min()) < 0.26 and 1.24 < float(gains.max()) <= 1.25
    for name in ("signs", "swaps"):
        values = torch.stack([getattr(one, name) for one in draws])
        assert 0.47 < float((values == 1).float().mean()) < 0.53
    origins = torch.stack([one.origins for one in draws])
    kept = (origins == torch.arange(8)[:, None]).float().mean()
    assert 0.22 < float(kept) < 0.28  # one of four
    # Sources are dealt independently of each other.
    assert 0.2 < float((origins[..., 0] == origins[..., 1]).float().mean()) < 0.3


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**40), step=st.integers(0, 10**9), batch=st.integers(1, 9), group=st.integers(0, 5)
)
def test_draws_depend_on_seed_and_step_alone_and_lose_no_source(
    seed: int, step: int, batch: int, group: int
) -> None:
    rules = BatchRules(shift=10, flip_sign=True, gain=(0.5, 2), remix_group=group)
    shape = (batch, 2, 1, 30)
    draw = draw_batch(rules, seed=seed, step=step, shape=shape)
    draw_batch(rules, seed=seed, step=step + 1, shape=shape)
    again = draw_batch(rules, seed=seed, step=step, shape=shape)
    for name in ("offsets", "signs", "swaps", "gains", "origins"):
        assert torch.equal(getattr(draw, name), getattr(again, name))
    for source in range(2):
        assert sorted(draw.origins[:, source].tolist()) == list(range(batch))
    assert not draw.swaps.any()  # there is nothing to swap
    if group:
        assert torch.equal(draw.origins // group, torch.arange(batch)[:, None].expand(-1, 2) // group)


def test_switching_one_thing_off_leaves_the_others() -> None:
    draw = draw_batch(ALL, seed=1, step=5, shape=SHAPE)
    less = draw_batch(BatchRules(shift=50, gain=(0.25, 1.25)), seed=1, step=5, shape=SHAPE)
    assert torch.equal(draw.offsets, less.offsets) and torch.equal(draw.gains, less.gains)
    assert (less.signs == 1).all() and torch.equal(less.origins, torch.arange(8)[:, None].expand(-1, 3))


def test_nothing_asked_changes_nothing_and_the_mixture_is_the_sum() -> None:
    targets = _targets()
    batch = Batch(step=3, mixture=targets.sum(1), targets=targets)
    torch.testing.assert_close(augmented(batch, BatchRules(), seed=0).targets, targets, rtol=0, atol=0)
    changed = augmented(batch, ALL, seed=0)
    torch.testing.assert_close(changed.mixture, changed.targets.sum(1))
    assert changed.mixture.shape == (8, 2, 150)
    torch.testing.assert_close(batch.targets, _targets(), rtol=0, atol=0)
    other = augmented(batch, ALL, seed=0, rank=1)
    assert not torch.equal(other.targets, changed.targets)


def test_examples_no_longer_than_the_shift_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be shifted by 50"):
        draw_batch(ALL, seed=0, step=0, shape=(2, 2, 2, 50))
