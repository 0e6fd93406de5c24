"""Stems by queries: a pass for each over the same windows, conditions window by window, activity."""

import re
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import ArraySource
from stemwright.core.errors import OptionError
from stemwright.models.separation.queries import StemQuery
from stemwright.models.separation.separator import SeparationOptions, Separator
from tests.support.fake_kinds import ASKED_GRAPH, AskedSession, answer_to, asked_manifest
from tests.support.fake_sessions import (
    FakeSession,
    collect,
    fake_manifest,
    fake_member,
    gains_network,
    join_by_hand,
    noise,
    separate_array,
)

pytestmark = pytest.mark.timeout(60)


@dataclass
class Listener:
    """A condition that depends on the window; None where it is quieter than `floor`."""

    gain: float
    floor: float = 0.0
    heard: dict[int, FloatArray] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)

    def condition(self, window: FloatArray, sample_rate: int, key: int) -> FloatArray | None:
        assert sample_rate == 1000
        if key in self.heard:
            np.testing.assert_array_equal(self.heard[key], window)
        self.heard[key] = window.copy()
        self.order.append(key)
        level = float(np.abs(window).mean())
        return None if level < self.floor else np.array([self.gain, level], np.float32)


def ask(**listeners: Listener) -> tuple[StemQuery, ...]:
    return tuple(StemQuery(name=name, source=source) for name, source in listeners.items())


def asked_separator(session: FakeSession | None = None) -> Separator:
    made = session or AskedSession(network=gains_network(), graph=ASKED_GRAPH)
    return Separator([fake_member(made, asked_manifest())], ())


def by_hand(samples: FloatArray, gain: float) -> FloatArray:
    frames = samples.shape[-1]
    padded = np.pad(samples, ((0, 0), (0, 200)))
    pieces = []
    for start in range(0, frames, 100):
        window = padded[:, start : start + 200]
        level = np.float32(np.abs(window).mean())
        pieces.append((start, answer_to(window, np.array([gain, level], np.float32))[0]))
    weight = np.sin(np.pi * (np.arange(200) + 0.5) / 200) ** 2
    return join_by_hand(pieces, weight, frames)


def test_each_query_is_a_stem_as_computed_by_hand() -> None:
    samples = noise(2, 1130)
    with asked_separator() as separator:
        assert separator.stems == ()
        options = SeparationOptions(queries=ask(dog=Listener(0.5), cat=Listener(2.0)))
        assert separator.output_stems(options) == ("dog", "cat")
        stems = separate_array(separator, samples, options=options)
    np.testing.assert_allclose(stems["dog"], by_hand(samples, 0.5), atol=1e-5)
    np.testing.assert_allclose(stems["cat"], by_hand(samples, 2.0), atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(
    frames=st.integers(1, 1500),
    batch=st.integers(1, 7),
    calls=st.integers(1, 3),
    block=st.integers(1, 900),
    channels=st.integers(1, 3),
    shifts=st.integers(0, 2),
)
def test_batches_blocks_and_other_queries_do_not_change_a_stem(
    frames: int, batch: int, calls: int, block: int, channels: int, shifts: int
) -> None:
    samples = noise(channels, frames, seed=frames)
    samples[:, frames // 3 : frames // 2] *= 0.01
    with asked_separator() as separator:
        options = SeparationOptions(queries=ask(dog=Listener(0.5, 0.05)), batch_size=1, shifts=shifts)
        alone = separate_array(separator, samples, options=options)
    session = AskedSession(
        network=gains_network(), graph=ASKED_GRAPH, parallel_calls=calls, batch_limit=batch
    )
    with asked_separator(session) as separator:
        queries = ask(cat=Listener(2.0), dog=Listener(0.5, 0.05))
        options = SeparationOptions(queries=queries, shifts=shifts, block_frames=block)
        together = separate_array(separator, samples, options=options)
    assert max(session.batches) <= batch
    np.testing.assert_array_equal(together["dog"], alone["dog"])


def test_queries_share_their_windows_in_turn_and_their_batches() -> None:
    session = AskedSession(network=gains_network(), graph=ASKED_GRAPH, batch_limit=4)
    shared = Listener(1.0)
    with asked_separator(session) as separator:
        queries = tuple(StemQuery(name=name, source=shared) for name in ("a", "b", "c", "d"))
        separate_array(separator, noise(2, 1000), options=SeparationOptions(queries=queries))
    assert session.batches == [4] * 10
    # All queries hear one window before any hears the next: one run of a tagger serves them.
    assert shared.order == [key for key in dict.fromkeys(shared.order) for _ in range(4)]
    assert len(shared.heard) == 10


def test_windows_of_other_channels_shifts_and_separations_have_other_keys() -> None:
    shared = Listener(1.0)
    samples = noise(6, 1000)
    with asked_separator() as separator:
        for _ in range(2):
            queries = (StemQuery(name="a", source=shared),)
            separate_array(separator, samples, options=SeparationOptions(queries=queries, shifts=2))
    assert len(set(shared.order)) == len(shared.order)


def test_where_nothing_asked_for_sounds_the_stem_is_silent_and_the_network_is_not_run() -> None:
    samples = noise(2, 2000)
    samples[:, 600:1400] *= 0.01
    session = AskedSession(network=gains_network(), graph=ASKED_GRAPH)
    with asked_separator(session) as separator:
        options = SeparationOptions(queries=ask(dog=Listener(0.5, 0.03), bird=Listener(1.0, 9.0)))
        separation = separator.separate(ArraySource(samples, 1000), options)
        stems = collect(separation)
        activity = separation.activity
    assert sum(session.batches) == 13
    assert not stems["bird"].any()
    assert not stems["dog"][:, 700:1300].any()
    assert stems["dog"][:, :600].any()
    assert activity == {"dog": ((0.0, 0.7), (1.3, 2.0)), "bird": ()}


def test_activity_lasts_no_longer_than_the_recording_and_is_of_queries_alone() -> None:
    with asked_separator() as separator:
        options = SeparationOptions(queries=ask(dog=Listener(1.0)), residual=True, shifts=2)
        separation = separator.separate(ArraySource(noise(2, 1010), 1000), options)
        collect(separation)
        assert separation.activity == {"dog": ((0.0, 1.01),)}


def test_silence_is_not_asked_about() -> None:
    listener = Listener(1.0)
    with asked_separator() as separator:
        separation = separator.separate(
            ArraySource(np.zeros((2, 3000), np.float32), 1000), SeparationOptions(queries=ask(dog=listener))
        )
        stems = collect(separation)
        assert separation.activity == {"dog": ()}
    assert not stems["dog"].any()
    assert not listener.order


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 1000), st.integers(1, 3))
def test_the_residual_is_what_no_query_took(frames: int, channels: int) -> None:
    samples = noise(channels, frames)
    queries = (
        StemQuery(name="animal", source=Listener(0.7), exclusive_group="levels"),
        StemQuery(name="dog", source=Listener(0.3)),
        StemQuery(name="cat", source=Listener(0.2)),
    )
    with asked_separator() as separator:
        options = SeparationOptions(queries=queries, residual=True)
        stems = separate_array(separator, samples, options=options)
    assert tuple(stems) == ("animal", "dog", "cat", "residual")
    np.testing.assert_allclose(stems["residual"], samples - stems["dog"] - stems["cat"], atol=1e-6)


def test_a_query_and_its_complement_are_the_recording() -> None:
    samples = noise(2, 500)
    with asked_separator() as separator:
        options = SeparationOptions(queries=ask(dog=Listener(0.5)), complement_of="dog")
        stems = separate_array(separator, samples, options=options)
    np.testing.assert_allclose(stems["dog"] + stems["no_dog"], samples, atol=1e-6)


def test_a_model_that_is_asked_is_opened_before_anybody_asks() -> None:
    with asked_separator() as separator:
        assert [facts.device for facts in separator.prepare()] == ["cpu"]
        with pytest.raises(OptionError, match="what it is asked for"):
            separator.prepare(SeparationOptions())


ALTERNATIVE = StemQuery(name="animal", source=Listener(1.0), exclusive_group="levels")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SeparationOptions(), "at least one query"),
        (SeparationOptions(queries=ask(dog=Listener(1.0)), stems=("dog",)), "stems are those of its queries"),
        (SeparationOptions(queries=ask(dog=Listener(1.0)) * 2), "two queries would give the stem 'dog'"),
        (SeparationOptions(queries=(ALTERNATIVE,), residual=True), "alternatives"),
        (SeparationOptions(queries=ask(dog=Listener(1.0)), complement_of="cat"), "no stem 'cat'"),
        (SeparationOptions(queries=ask(residual=Listener(1.0)), residual=True), "stem named residual"),
        (SeparationOptions(queries=ask(dog=Listener(1.0)), remainder="network"), "no stem .* is a remainder"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: SeparationOptions, message: str) -> None:
    with asked_separator() as separator, pytest.raises(OptionError) as caught:
        separator.output_stems(options)
    assert re.search(message, f"{caught.value.message}; {caught.value.remedy}")


def test_a_model_of_fixed_stems_takes_no_queries() -> None:
    session = FakeSession(network=gains_network())
    with (
        Separator([fake_member(session)], fake_manifest().stems) as separator,
        pytest.raises(OptionError, match="takes no queries"),
    ):
        separator.separate(
            ArraySource(noise(2, 100), 1000), SeparationOptions(queries=ask(dog=Listener(1.0)))
        )


def test_models_that_are_asked_cannot_be_averaged() -> None:
    members = [
        fake_member(AskedSession(network=gains_network(), graph=ASKED_GRAPH), asked_manifest(name=name))
        for name in ("a", "b")
    ]
    with pytest.raises(OptionError, match="cannot be averaged"):
        Separator(members, ())


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 65])
def test_names_that_would_be_no_file_are_refused(name: str) -> None:
    with pytest.raises(OptionError):
        StemQuery(name=name, source=Listener(1.0))


def test_a_condition_of_another_length_is_the_sources_fault() -> None:
    class Wrong:
        def condition(self, window: FloatArray, sample_rate: int, key: int) -> FloatArray | None:
            return np.ones(3, np.float32)

    with asked_separator() as separator, pytest.raises(ValueError, match=r"shape \(3,\), not \(2,\)"):
        queries = (StemQuery(name="dog", source=Wrong()),)
        separate_array(separator, noise(2, 300), options=SeparationOptions(queries=queries))


def test_stems_come_while_a_batch_waits_behind_hours_in_which_nothing_sounds() -> None:
    """One window that sounds does not hold all silent ones after it back."""
    samples = noise(2, 60_000) * np.float32(0.01)
    samples[:, :200] = noise(2, 200)
    session = AskedSession(network=gains_network(), graph=ASKED_GRAPH, batch_limit=4)
    with asked_separator(session) as separator:
        queries = ask(dog=Listener(1.0, 0.05), cat=Listener(2.0, 0.05))
        separation = separator.separate(ArraySource(samples, 1000), SeparationOptions(queries=queries))
        with separation:
            sizes = [block.frames for block in separation]
    assert sum(session.batches) == 2
    assert sum(sizes) == 60_000
    assert max(sizes) <= 4000
