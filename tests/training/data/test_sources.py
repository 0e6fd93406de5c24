import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InputError, OptionError
from stemwright.training.data import draws
from stemwright.training.data.batches import batches, make_batch
from stemwright.training.data.examples import Source
from stemwright.training.data.mixed import Mixed
from stemwright.training.data.mixture_lists import ListedMixtures
from stemwright.training.data.pack import Pack
from stemwright.training.data.packing import PackRules, open_data
from stemwright.training.data.songs import SongRules, Songs
from stemwright.training.data.speech import SpeechMixtures, SpeechRules
from tests.support import data_folders
from tests.support.data_folders import tone, write

ANY_STEP = st.integers(0, 10**12)


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("voices")
    return open_data(data_folders.speech(folder / "data", 5), layout="speech", cache=folder)


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("album")
    return open_data(data_folders.songs(folder / "data", 4), cache=folder)


@pytest.fixture(scope="module")
def sources(voices: Pack, album: Pack) -> tuple[Source, ...]:
    speech = SpeechMixtures(voices, SpeechRules(samples=800))
    other = SpeechMixtures(voices, SpeechRules(samples=800, noise_share=0.5), noise=voices)
    return (
        speech,
        Mixed([speech, other], [1, 2]),
        Songs(album, SongRules(samples=500, remix=0.5, normalise=True)),
    )


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**40), step=ANY_STEP, index=st.integers(0, 10**6), which=st.integers(0, 2))
def test_an_example_depends_on_seed_step_and_index_alone(
    sources: tuple[Source, ...], seed: int, step: int, index: int, which: int
) -> None:
    source = sources[which]
    first = source.example(seed, step, index)
    source.example(seed + 1, step, index)
    again = source.example(seed, step, index)
    np.testing.assert_array_equal(first.mixture, again.mixture)
    np.testing.assert_array_equal(first.targets, again.targets)
    for other in ((seed + 1, step, index), (seed, step + 1, index), (seed, step, index + 1)):
        assert not np.array_equal(source.example(*other).mixture, first.mixture)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 4), size=st.integers(1, 3), ranks=st.integers(1, 3), which=st.integers(0, 2))
def test_batches_do_not_depend_on_where_a_run_starts_nor_on_its_processes(
    sources: tuple[Source, ...], start: int, size: int, ranks: int, which: int
) -> None:
    source = sources[which]
    whole = list(batches(source, seed=3, batch_size=size * ranks, end_step=6))
    assert [one.step for one in whole] == list(range(6))
    for rank in range(ranks):
        part = list(
            batches(source, seed=3, batch_size=size, start_step=start, end_step=6, first_index=rank * size)
        )
        assert [one.step for one in part] == list(range(start, 6))
        for one in part:
            share = whole[one.step].targets[rank * size : (rank + 1) * size]
            np.testing.assert_array_equal(one.targets, share)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_workers(sources: tuple[Source, ...], workers: int) -> None:
    for source in sources:
        made = list(batches(source, seed=5, batch_size=2, start_step=3, end_step=8, workers=workers))
        assert [one.step for one in made] == [3, 4, 5, 6, 7]
        for one in made:
            here = make_batch(source, 5, one.step, 2)
            np.testing.assert_array_equal(one.mixture, here.mixture)
            np.testing.assert_array_equal(one.targets, here.targets)


def test_endless_batches_can_be_left(sources: tuple[Source, ...]) -> None:
    steps = batches(sources[0], seed=0, batch_size=1, start_step=10**9)
    assert [next(steps).step for _ in range(3)] == [10**9, 10**9 + 1, 10**9 + 2]


def _speaker(voice: FloatArray) -> int:
    """Number of the speaker of `data_folders.speech`, by the pitch."""
    spectrum = np.abs(np.fft.rfft(voice[0]))
    hz: float = int(spectrum.argmax()) * 8000 / voice.shape[1]
    return round(hz / 110) - 1


def test_voices_are_of_different_speakers_who_come_equally_often(voices: Pack) -> None:
    source = SpeechMixtures(voices, SpeechRules(samples=4000))
    pairs = [tuple(_speaker(voice) for voice in source.example(0, step, 0).targets) for step in range(300)]
    assert all(first != second for first, second in pairs)
    counts = Counter(speaker for pair in pairs for speaker in pair)
    assert set(counts) == set(range(5))
    assert max(counts.values()) - min(counts.values()) < 60  # 120 each on average, deviation 8.5
    weighted = SpeechMixtures(voices, SpeechRules(samples=4000, weights={"s0": 0.0, "s1": 4.0}))
    counts = Counter(_speaker(v) for step in range(100) for v in weighted.example(0, step, 0).targets)
    assert counts[0] == 0 and counts[1] > 80


def test_levels_differ_as_the_rules_say(voices: Pack) -> None:
    source = SpeechMixtures(voices, SpeechRules(samples=8000, level_db=(-30, -20)))
    over, mean = [], []
    for step in range(200):
        example = source.example(1, step, 0)
        np.testing.assert_allclose(example.mixture, example.targets.sum(axis=0), atol=1e-7)
        levels = 20 * np.log10(np.sqrt(np.square(example.targets).mean(axis=(1, 2))))
        over.append(levels[0] - levels[1])
        mean.append(levels.mean())
    assert -5.1 < min(over) < -4.7 and 4.7 < max(over) < 5.1  # uniform in +-5 dB
    assert np.std(over) == pytest.approx(10 / np.sqrt(12), rel=0.1)
    assert -30.1 < min(mean) < -29.5 and -20.5 < max(mean) < -19.9


def test_loud_mixtures_are_kept_below_full_scale(voices: Pack) -> None:
    source = SpeechMixtures(voices, SpeechRules(samples=800, level_db=(0, 0)))
    example = source.example(0, 0, 0)
    assert float(np.abs(example.mixture).max()) == pytest.approx(0.9)
    np.testing.assert_allclose(example.mixture, example.targets.sum(axis=0), atol=1e-6)


def test_short_utterances_are_joined_but_those_of_a_pool_are_padded(voices: Pack) -> None:
    rules = SpeechRules(samples=20000, pools=frozenset(voices.groups))
    joined = SpeechMixtures(voices, SpeechRules(samples=20000)).example(0, 0, 0)
    padded = SpeechMixtures(voices, rules).example(0, 0, 0)
    assert all(np.mean(voice == 0) < 0.01 for voice in joined.targets)
    assert all(0.5 < np.mean(voice == 0) < 0.61 for voice in padded.targets)


def test_pauses_are_drawn_again(tmp_path: Path) -> None:
    for speaker in range(2):
        samples = np.zeros((1, 80000), np.float32)
        samples[:, 30000:70000] = tone(5.0, 8000, 200.0)
        write(tmp_path / "data" / f"s{speaker}" / "u.wav", samples, 8000)
    pack = open_data(tmp_path / "data", layout="speech", cache=tmp_path)
    source = SpeechMixtures(pack, SpeechRules(samples=2000))
    assert all(source.example(0, step, 0).targets.any(axis=(1, 2)).all() for step in range(50))


def test_noise_lies_below_the_voices(voices: Pack) -> None:
    source = SpeechMixtures(
        voices, SpeechRules(samples=20000, noise_share=1, noise_db=(10, 10)), noise=voices
    )
    example = source.example(0, 0, 0)
    noise = example.mixture - example.targets.sum(axis=0)
    levels = 20 * np.log10(np.sqrt(np.square(example.targets).mean(axis=(1, 2))))
    assert 20 * np.log10(np.sqrt(np.square(noise).mean())) == pytest.approx(levels.mean() - 10, abs=0.3)


def test_rooms_add_what_comes_after_a_sound(tmp_path: Path) -> None:
    for speaker in range(2):
        click = np.zeros((1, 16000), np.float32)
        click[:, 1000:1200] = tone(0.025, 8000, 500.0, gain=0.5)
        write(tmp_path / "data" / f"s{speaker}" / "u.wav", click, 8000)
    pack = open_data(tmp_path / "data", layout="speech", cache=tmp_path)
    dry = SpeechMixtures(pack, SpeechRules(samples=16000)).example(0, 3, 0)
    wet = SpeechMixtures(pack, SpeechRules(samples=16000, room_share=1.0)).example(0, 3, 0)
    np.testing.assert_allclose(wet.mixture, wet.targets.sum(axis=0), atol=1e-6)
    for before, after in zip(dry.targets[:, 0], wet.targets[:, 0], strict=True):
        assert not before[:1000].any() and not before[1200:].any()
        assert np.abs(after[:1000]).max() < 1e-6  # nothing is heard before it is said
        level = np.square(after[1000:1200]).sum() / np.square(after[1300:]).sum()
        assert 1 < 10 * np.log10(level) < 20
        assert np.square(after[14000:]).sum() < 1e-4 * np.square(after).sum()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (SpeechRules(speakers=6), "need as many speakers"),
        (SpeechRules(weights={"s9": 1.0}), "no speaker s9"),
        (SpeechRules(weights={f"s{n}": 0.0 for n in range(4)}), "weight above 0"),
        (SpeechRules(noise_share=0.1), "needs noises"),
    ],
)
def test_speech_that_cannot_be_mixed_is_refused(voices: Pack, rules: SpeechRules, message: str) -> None:
    with pytest.raises((InputError, OptionError), match=message):
        SpeechMixtures(voices, rules)


def test_songs_are_cut_from_their_stems(album: Pack) -> None:
    source = Songs(album, SongRules(samples=500))
    for step in range(20):
        example = source.example(0, step, 0)
        assert source.names == ("bass", "drums", "other", "vocals")
        np.testing.assert_allclose(example.mixture, example.targets.sum(axis=0), atol=1e-7)
        assert any(_is_from(album, song, example.targets) for song in range(4))


def _is_from(album: Pack, song: int, targets: FloatArray) -> bool:
    windows = np.lib.stride_tricks.sliding_window_view(album.read(song * 4)[0], targets.shape[-1])
    starts = np.flatnonzero(windows[:, 0] == targets[0, 0, 0])
    return any(
        np.array_equal(album.read(song * 4 + 3, int(start), targets.shape[-1]), targets[3])
        for start in starts
        if np.array_equal(windows[start], targets[0, 0])
    )


def test_remixed_stems_come_from_several_songs(album: Pack) -> None:
    source = Songs(album, SongRules(samples=500, remix=1.0))
    from_one = [
        any(_is_from(album, song, source.example(0, step, 0).targets) for song in range(4))
        for step in range(10)
    ]
    assert not any(from_one)


def test_targets_are_sums_of_stems_in_the_order_asked_for(album: Pack) -> None:
    rules = SongRules(targets={"vocals": ["vocals"], "rest": ["drums", "bass", "other"]}, samples=8000)
    source = Songs(album, rules)
    example = source.example(0, 0, 0)
    song = next(n for n in range(4) if np.array_equal(album.read(4 * n + 3), example.targets[0]))
    wanted = sum(album.read(4 * song + place) for place in (1, 0, 2))
    np.testing.assert_allclose(example.targets[1], wanted, atol=1e-7)
    mono = Songs(album, SongRules(samples=8000, channels=1))
    channels = {
        channel
        for step in range(20)
        for channel in range(2)
        for song in range(4)
        if np.array_equal(album.read(4 * song)[channel], mono.example(0, step, 0).targets[0, 0])
    }
    assert channels == {0, 1}


def test_normalised_songs_have_the_mixture_of_a_whole_song_at_one(album: Pack) -> None:
    source = Songs(album, SongRules(samples=8000, normalise=True))
    mono = source.example(0, 0, 0).mixture.mean(axis=0)
    assert mono.std() == pytest.approx(1.0, rel=1e-3)


def test_what_songs_do_not_have_is_told(album: Pack, voices: Pack) -> None:
    with pytest.raises(InputError, match="has no stem guitar, only bass, drums, other, vocals"):
        Songs(album, SongRules(targets={"guitar": ["guitar"]}))
    with pytest.raises(InputError, match="no pack of stems"):
        Songs(voices)


def test_listed_mixtures_follow_librimix(tmp_path: Path) -> None:
    data = data_folders.speech(tmp_path / "train-clean-100", 3, 1)
    (data / "s0" / "u0.wav").rename(data / "s0" / "0-1-0000.wav")
    (data / "s1" / "u0.wav").rename(data / "s1" / "1-1-0000.wav")
    pack = open_data(tmp_path, PackRules(), layout="speech", cache=tmp_path / "cache")
    assert {one.split for one in pack.recordings} == {"train"} and set(pack.groups) == {"s0", "s1", "s2"}
    table = tmp_path / "libri2mix.csv"
    row = {
        "mixture_ID": "0-1-0000_1-1-0000",
        "source_1_path": "train-clean-100/0/1/0-1-0000.flac",
        "source_1_gain": "0.5",
        "source_2_path": "train-clean-100/1/1/1-1-0000.flac",
        "source_2_gain": "2.0",
        "noise_path": "tr/x.wav",
        "noise_gain": "0.1",
    }
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row)
    source = ListedMixtures(pack, table, samples=500)
    whole = source.whole(0)
    numbers = {one.name: number for number, one in enumerate(pack.recordings)}
    first = pack.read(numbers["train-clean-100/s0/0-1-0000.wav"])
    second = pack.read(numbers["train-clean-100/s1/1-1-0000.wav"])
    np.testing.assert_allclose(whole.mixture, 0.5 * first + 2 * second, atol=1e-7)
    assert source.example(0, 0, 0).targets.shape == (2, 1, 500)
    table.write_text(table.read_text().replace("1-1-0000.flac", "9-9-0000.flac"))
    with pytest.raises(InputError, match="no utterance 9-9-0000"):
        ListedMixtures(pack, table, samples=500)
    table.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no metadata of LibriMix"):
        ListedMixtures(pack, table, samples=500)


@given(number=st.integers(0, 10**6), count=st.integers(1, 40), seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_rounds_deal_everything_once(number: int, count: int, seed: int) -> None:
    first = number // count * count
    dealt = [draws.nth_of_rounds(first + place, count, seed, "x") for place in range(count)]
    assert sorted(dealt) == list(range(count))


@given(weights=st.lists(st.integers(0, 5), min_size=1, max_size=8).filter(any), draw=st.floats(0, 1))
def test_nothing_of_weight_zero_is_drawn(weights: list[int], draw: float) -> None:
    if draw < 1:
        assert weights[draws.weighted(draw, np.cumsum(np.array(weights, np.float64)))] > 0


def test_mixed_sources_must_fit_together(voices: Pack, album: Pack) -> None:
    speech, songs = SpeechMixtures(voices), Songs(album)
    with pytest.raises(OptionError, match="different targets"):
        Mixed([speech, songs], [1, 1])
    with pytest.raises(OptionError, match="one weight"):
        Mixed([speech], [1, 2])
