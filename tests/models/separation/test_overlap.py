import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.models.manifest import ChunkPlan
from stemwright.models.separation.overlap import AlignedSum, OverlapAdd, Part
from stemwright.models.separation.plan import TrackPlan
from tests.models.separation.test_plan import track_plans


def run(
    plan: TrackPlan, pieces: list[FloatArray | None], stems: int = 2, channels: int = 1
) -> list[FloatArray]:
    adder = OverlapAdd(plan, stems, channels)
    return [
        adder.add(chunk, None if piece is None else piece.copy())
        for chunk, piece in zip(plan.chunks(), pieces, strict=True)
    ]


def brute_force(plan: TrackPlan, pieces: list[FloatArray | None]) -> FloatArray:
    sums = np.zeros((2, 1, plan.frames - plan.origin))
    weights = np.zeros(plan.frames - plan.origin)
    for chunk, piece in zip(plan.chunks(), pieces, strict=True):
        span = slice(chunk.start - plan.origin, chunk.start - plan.origin + chunk.length)
        weights[span] += plan.window[: chunk.length]
        if piece is not None:
            sums[..., span] += piece * plan.window[: chunk.length]
    return (sums / np.maximum(weights, 1e-30))[..., -plan.origin :].astype(np.float32)


@given(track_plans(), st.integers(0, 2**32 - 1))
def test_stream_equals_the_sum_over_the_whole_track(plan: TrackPlan, seed: int) -> None:
    generator = np.random.default_rng(seed)
    pieces = [
        None
        if generator.random() < 0.2
        else generator.standard_normal((2, 1, chunk.length)).astype(np.float32)
        for chunk in plan.chunks()
    ]
    blocks = run(plan, pieces)
    assert sum(block.shape[-1] for block in blocks) == plan.frames
    if blocks:
        np.testing.assert_allclose(np.concatenate(blocks, axis=-1), brute_force(plan, pieces), atol=2e-5)


@given(track_plans())
def test_samples_come_as_soon_as_no_later_chunk_covers_them(plan: TrackPlan) -> None:
    chunks = list(plan.chunks())
    given_out = 0
    adder = OverlapAdd(plan, 1, 1)
    for chunk, following in zip(chunks, [*chunks, None][1:], strict=True):
        given_out += adder.add(chunk, None).shape[-1]
        assert given_out == max(0, following.start if following is not None else plan.frames)


@given(track_plans(), st.integers(0, 2**32 - 1))
def test_chunks_of_one_signal_give_it_back(plan: TrackPlan, seed: int) -> None:
    signal = np.random.default_rng(seed).standard_normal((2, 1, plan.frames - plan.origin)).astype(np.float32)
    pieces = [
        signal[..., chunk.start - plan.origin : chunk.start - plan.origin + chunk.length]
        for chunk in plan.chunks()
    ]
    blocks = run(plan, list(pieces))
    if blocks:
        np.testing.assert_allclose(np.concatenate(blocks, axis=-1), signal[..., -plan.origin :], atol=2e-6)


def test_chunks_have_to_come_in_order() -> None:
    plan = TrackPlan(call=ChunkPlan(input_samples=8, output_samples=8), frames=20, overlap=0.25)
    with pytest.raises(ValueError, match="chunk 1 came when 0 was due"):
        OverlapAdd(plan, 1, 1).add(plan.chunk(1), None)


PARTS = (
    Part(stems=(0, 1), channels=(0, 1), gains=(0.5, 1.0)),
    Part(stems=(0,), channels=(1, 0), gains=(0.25,)),
    Part(stems=(1, 0), channels=(2,), gains=(1.0, 1.0)),
)


def streams(frames: int) -> list[FloatArray]:
    generator = np.random.default_rng(frames)
    return [
        generator.standard_normal((len(p.stems), len(p.channels), frames)).astype(np.float32) for p in PARTS
    ]


def add_in_pieces(frames: int, seed: int) -> FloatArray:
    """Push the streams in random pieces and random turns; join what comes out."""
    chooser = random.Random(seed)
    total, rest = AlignedSum(PARTS, 2, 3), streams(frames)
    out = [np.zeros((2, 3, 0), np.float32)]
    while any(stream.shape[-1] for stream in rest):
        turn = chooser.randrange(len(rest))
        count = chooser.randint(0, 40)
        total.push(turn, rest[turn][..., :count])
        rest[turn] = rest[turn][..., count:]
        if chooser.random() < 0.5:
            block = total.pop()
            if block is not None:
                out.append(block)
    while (block := total.pop()) is not None:
        out.append(block)
    return np.concatenate(out, axis=-1)


@given(st.integers(0, 200), st.integers(0, 2**32 - 1))
def test_sum_does_not_depend_on_pieces_or_turns(frames: int, seed: int) -> None:
    a, b, c = streams(frames)
    expected = np.zeros((2, 3, frames), np.float32)
    expected[:, :2] += a * np.asarray([0.5, 1.0], np.float32)[:, None, None]
    expected[0, [1, 0]] += b[0] * np.float32(0.25)
    expected[[1, 0], 2] += c[:, 0]
    np.testing.assert_array_equal(add_in_pieces(frames, seed), expected)


def test_sum_waits_for_the_slowest_stream() -> None:
    total = AlignedSum(PARTS[:2], 2, 2)
    total.push(0, np.ones((2, 2, 10), np.float32))
    assert total.pop() is None
    total.push(1, np.ones((1, 2, 3), np.float32))
    block = total.pop()
    assert block is not None
    assert block.shape == (2, 2, 3)


def test_a_single_whole_stream_is_handed_on_as_it_is() -> None:
    whole = Part(stems=(0, 1), channels=(0,), gains=(1.0, 1.0))
    total = AlignedSum([whole], 2, 1)
    block = np.ones((2, 1, 5), np.float32)
    total.push(0, block)
    assert total.pop() is block
    assert total.pop() is None
