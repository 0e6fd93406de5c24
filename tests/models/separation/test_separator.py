import gc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import ArraySource
from stemwright.core.errors import InputError, InternalError, OptionError, OutOfMemoryError
from stemwright.models.separation.separator import Progress, SeparationOptions, Separator
from tests.support.fake_sessions import (
    STEMS,
    FakeSession,
    Network,
    collect,
    context_network,
    fake_manifest,
    fake_member,
    fake_separator,
    gains_network,
    noise,
    separate_array,
)

pytestmark = pytest.mark.timeout(60)

# --- memory of the device ---------------------------------------------------------------------


def test_batches_shrink_when_the_memory_runs_out() -> None:
    session = FakeSession(network=context_network(), batch_limit=8, memory=2)
    samples = noise(2, 6000)
    with Separator([fake_member(session)], STEMS) as separator:
        stems = separate_array(separator, samples)
        assert separator.facts["fake"].batch_limit == 2
        first = len(session.batches)
        separate_array(separator, samples)
        assert max(session.batches[first:]) == 2
    with fake_separator(context_network()) as plain:
        np.testing.assert_array_equal(stems["bass"], separate_array(plain, samples)["bass"])


def test_a_single_window_that_does_not_fit_is_reported() -> None:
    with fake_separator(context_network(), memory=0) as separator, pytest.raises(OutOfMemoryError):
        separate_array(separator, noise(2, 3000))


# --- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SeparationOptions(stems=("piano",)), "no stem 'piano'"),
        (SeparationOptions(stems=()), "no stems"),
        (SeparationOptions(complement_of="piano"), "no stem 'piano'"),
        (SeparationOptions(complement_of="bass", residual=True), "leave no room"),
        (SeparationOptions(complement_of="bass", stems=("bass",)), "leave no room"),
        (SeparationOptions(overlap=1.0), "overlap"),
        (SeparationOptions(overlap=-0.5), "overlap"),
        (SeparationOptions(overlap=float("nan")), "overlap"),
        (SeparationOptions(shifts=-1), "shifts"),
        (SeparationOptions(seed=-1), "seed"),
        (SeparationOptions(discard_s=-1), "discard_s"),
        (SeparationOptions(discard_s=float("nan")), "discard_s"),
        (SeparationOptions(discard_s=10.0), "leaves nothing"),
        (SeparationOptions(batch_size=0), "batch size"),
        (SeparationOptions(block_frames=0), "block size"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_any_work(
    options: SeparationOptions, message: str
) -> None:
    session = FakeSession(network=gains_network())
    with Separator([fake_member(session)], STEMS) as separator:
        with pytest.raises(OptionError, match=message):
            separator.separate(ArraySource(noise(2, 100), 1000), options)
        assert separator.facts == {}


@pytest.mark.parametrize("order", [(*reversed(STEMS),), (STEMS[1], STEMS[0]), (STEMS[-1],)])
def test_stems_keep_their_names_in_whatever_order_they_are_asked_for(order: tuple[str, ...]) -> None:
    samples = noise(2, 3000)
    with fake_separator(gains_network()) as separator:
        expected = separate_array(separator, samples)
        found = separate_array(separator, samples, options=SeparationOptions(stems=order))
    assert tuple(found) == order
    for name in order:
        np.testing.assert_array_equal(found[name], expected[name])


def test_output_stems_are_known_before_any_work() -> None:
    with fake_separator() as separator:
        assert separator.output_stems() == STEMS
        assert separator.output_stems(SeparationOptions(stems=("bass",), residual=True)) == (
            "bass",
            "residual",
        )
        assert separator.output_stems(SeparationOptions(complement_of="bass")) == ("bass", "no_bass")
        assert separator.prepare()[0].runtime == "numpy"


def test_a_model_with_a_stem_named_residual_gets_no_second_one() -> None:
    manifest = fake_manifest(stems=("vocals", "residual"))
    with fake_separator(gains_network((0.5, 0.5)), manifest) as separator:
        with pytest.raises(OptionError, match="residual"):
            separator.output_stems(SeparationOptions(residual=True))


def test_a_separator_without_members_is_a_bug() -> None:
    with pytest.raises(ValueError, match="member"):
        Separator([], STEMS)


def test_gains_that_are_no_average_are_a_bug() -> None:
    member = fake_member(FakeSession(network=gains_network()), gains={"bass": 0.9})
    with pytest.raises(ValueError, match="gains for bass add up to"):
        Separator([member], ("bass",))


def test_a_closed_separator_takes_no_more_work() -> None:
    separator = fake_separator()
    separator.close()
    with pytest.raises(ValueError, match="closed"):
        separator.separate(ArraySource(noise(2, 100), 1000))


# --- progress, peaks, analysis ----------------------------------------------------------------


def test_progress_is_measured_and_ends_at_the_whole() -> None:
    seen: list[Progress] = []
    with fake_separator() as separator:
        source = ArraySource(noise(2, 3000), 1000)
        collect(separator.separate(source, SeparationOptions(shifts=2), progress=seen.append))
    assert seen[0].stage == "analysis"
    chunks = [report for report in seen if report.stage == "separation"]
    assert [report.done_chunks for report in chunks] == sorted(report.done_chunks for report in chunks)
    assert chunks[0].done_chunks == 0
    assert chunks[0].fraction == 0
    assert chunks[-1].done_chunks == chunks[-1].total_chunks
    assert chunks[-1].fraction == 1
    assert chunks[-1].total_s == 3.0
    assert [report.elapsed_s for report in seen] == sorted(report.elapsed_s for report in seen)
    assert all(0 <= report.fraction <= 1 for report in seen)


def test_fraction_of_an_analysis_of_unknown_length_is_zero() -> None:
    report = Progress(
        stage="analysis", done_chunks=0, total_chunks=0, audio_s=5.0, total_s=None, elapsed_s=1.0
    )
    assert report.fraction == 0


def test_peaks_and_facts_of_the_recording() -> None:
    samples = noise(2, 1000)
    with fake_separator() as separator:
        separation = separator.separate(ArraySource(samples, 1000))
        assert (separation.frames, separation.sample_rate, separation.channels) == (1000, 1000, 2)
        assert separation.analysis.peak == np.abs(samples).max()
        stems = collect(separation)
    assert separation.peaks == {stem: float(np.abs(x).max()) for stem, x in stems.items()}
    assert separation.frames == 1000


# --- input that fails -------------------------------------------------------------------------


class Flaky(ArraySource):
    """Reads well once and otherwise the second time."""

    def __init__(self, samples: FloatArray, second: FloatArray) -> None:
        super().__init__(samples, 1000)
        self._second = ArraySource(second, 1000)
        self._passes = 0

    def blocks(self, block_frames: int = 64) -> Iterator[FloatArray]:
        self._passes += 1
        return super().blocks(block_frames) if self._passes == 1 else self._second.blocks(block_frames)


@pytest.mark.parametrize("second", [900, 1100])
def test_a_recording_that_changes_between_the_passes_is_refused(second: int) -> None:
    with fake_separator() as separator, pytest.raises(InputError, match="changed"):
        collect(separator.separate(Flaky(noise(2, 1000), noise(2, second))))


def test_values_that_are_not_finite_stop_the_separation() -> None:
    def broken(windows: FloatArray) -> FloatArray:
        stems = gains_network()(windows)
        stems[-1, 0, 0, 0] = np.nan
        return stems

    with fake_separator(broken) as separator, pytest.raises(InternalError, match="not finite"):
        separate_array(separator, noise(2, 3000))


def test_the_recording_itself_is_never_written_to() -> None:
    samples = noise(2, 1000)
    samples.flags.writeable = False
    with fake_separator(manifest=fake_manifest(normalise=True)) as separator:
        separate_array(separator, samples, options=SeparationOptions(residual=True))


def test_a_separator_that_is_dropped_frees_its_members() -> None:
    network: Network = gains_network()
    separator = fake_separator(network)
    separate_array(separator, noise(2, 300))
    gone = weakref.ref(separator)
    separator.close()
    del separator
    gc.collect()
    assert gone() is None
