import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemwright.core.errors import OptionError
from stemwright.models.manifest import ChunkPlan
from stemwright.models.separation.plan import TrackPlan, draw_origins

HTDEMUCS = ChunkPlan(input_samples=343_980, output_samples=343_980)


@st.composite
def track_plans(draw: st.DrawFn) -> TrackPlan:
    output = draw(st.integers(1, 60))
    before, behind = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    discard = draw(st.integers(0, (output - 1) // 2))
    left = output - 2 * discard
    overlap = draw(
        st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9]).filter(lambda o: int((1 - o) * left) > 0)
    )
    return TrackPlan(
        call=ChunkPlan(
            input_samples=before + output + behind,
            output_samples=output,
            output_offset=before,
            window=draw(st.sampled_from(["triangle", "hann", "rectangular"])),
            tail=draw(st.sampled_from(["centred", "end"])),
        ),
        frames=draw(st.integers(0, 500)),
        overlap=overlap,
        discard=discard,
        origin=-draw(st.integers(0, 40)),
    )


@given(track_plans())
def test_chunks_cover_the_track_and_lie_inside_their_windows(plan: TrackPlan) -> None:
    chunks = list(plan.chunks())
    assert len(chunks) == plan.count
    covered = np.zeros(plan.frames - plan.origin, bool)
    for chunk in chunks:
        assert 1 <= chunk.length <= plan.chunk_samples
        covered[chunk.start - plan.origin : chunk.start - plan.origin + chunk.length] = True
        assert plan.discard <= chunk.skip
        assert chunk.skip + chunk.length <= plan.call.output_samples - plan.discard
        assert chunk.window_start + plan.call.output_offset + chunk.skip == chunk.start
    assert covered.all() or plan.frames == 0


@given(track_plans())
def test_windows_never_go_back(plan: TrackPlan) -> None:
    starts = [chunk.window_start for chunk in plan.chunks()]
    assert starts == sorted(starts)


@given(st.integers(1, 3000), st.integers(1, 400), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]))
def test_starts_are_those_of_demucs(frames: int, size: int, overlap: float) -> None:
    if int((1 - overlap) * size) == 0:
        return
    plan = TrackPlan(call=ChunkPlan(input_samples=size, output_samples=size), frames=frames, overlap=overlap)
    assert [chunk.start for chunk in plan.chunks()] == list(range(0, frames, int((1 - overlap) * size)))


@pytest.mark.parametrize(("seconds", "chunks"), [(180, 31), (240, 42), (20, 4)])
def test_chunk_counts_of_htdemucs(seconds: int, chunks: int) -> None:
    plan = TrackPlan(call=HTDEMUCS, frames=seconds * 44_100, overlap=0.25)
    assert plan.stride == 257_985
    assert plan.count == chunks


def test_short_last_chunk_of_htdemucs_sees_real_context() -> None:
    plan = TrackPlan(call=HTDEMUCS, frames=882_000, overlap=0.25)
    last = plan.chunk(3)
    assert (last.start, last.length, last.window_start, last.skip) == (773_955, 108_045, 655_988, 117_967)


def test_short_file_lies_in_the_middle_of_the_window() -> None:
    only = TrackPlan(call=HTDEMUCS, frames=3 * 44_100, overlap=0.25).chunk(0)
    assert only.window_start == -105_840


def test_tail_at_the_end_starts_the_window_at_the_chunk() -> None:
    call = ChunkPlan(input_samples=100, output_samples=80, output_offset=10, tail="end")
    last = TrackPlan(call=call, frames=90, overlap=0.25).chunk(1)
    assert (last.start, last.length, last.window_start, last.skip) == (60, 30, 50, 0)


@pytest.mark.parametrize(
    ("size", "heights"),
    [(1, [1]), (2, [1, 1]), (3, [1, 2, 1]), (7, [1, 2, 3, 4, 3, 2, 1])],
)
def test_triangle_rises_and_falls_by_the_sample(size: int, heights: list[int]) -> None:
    call = ChunkPlan(input_samples=size, output_samples=size)
    expected = np.asarray(heights, np.float32) / np.float32(max(heights))
    np.testing.assert_array_equal(TrackPlan(call=call, frames=1, overlap=0.0).window, expected)


@given(track_plans())
def test_weights_are_positive_and_at_most_one(plan: TrackPlan) -> None:
    assert plan.window.shape == (plan.chunk_samples,)
    assert plan.window.dtype == np.float32
    assert (plan.window > 0).all() and (plan.window <= 1).all()
    np.testing.assert_allclose(plan.window, plan.window[::-1], atol=1e-6)


@pytest.mark.parametrize("overlap", [-0.1, 1.0, 1.5, float("nan"), 0.9999999])
def test_overlap_that_does_not_advance_is_refused(overlap: float) -> None:
    with pytest.raises(OptionError, match="overlap"):
        TrackPlan(call=HTDEMUCS, frames=1, overlap=overlap)


def test_discarding_everything_is_refused() -> None:
    with pytest.raises(OptionError, match="leaves nothing"):
        TrackPlan(call=HTDEMUCS, frames=1, overlap=0.25, discard=171_990)


def test_no_chunk_outside_the_plan() -> None:
    plan = TrackPlan(call=HTDEMUCS, frames=1, overlap=0.25)
    with pytest.raises(ValueError, match="no chunk 1 of 1"):
        plan.chunk(1)


def test_origins_are_seeded_and_within_half_a_second() -> None:
    first = draw_origins(np.random.default_rng(3), 100, 1000)
    assert first == draw_origins(np.random.default_rng(3), 100, 1000)
    assert first != draw_origins(np.random.default_rng(4), 100, 1000)
    assert all(-500 <= origin <= 0 for origin in first)
    assert len(set(first)) > 50
    assert draw_origins(np.random.default_rng(3), 0, 1000) == (0,)
