import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InputError, OptionError
from stemwright.training.data.anchor_finding import class_of
from stemwright.training.data.anchors import AnchorRules, mine, smoothed
from stemwright.training.data.events import EventPairs, EventRules, matched_gain
from stemwright.training.data.listing import find_recordings
from stemwright.training.data.pack import ANCHORS_FILE, Pack
from stemwright.training.data.pack_index import Anchor, AnchorTable, read_index, write_index
from stemwright.training.data.pack_making import make_pack
from stemwright.training.data.packing import PackRules, open_data
from tests.support.data_folders import tone, write
from tests.support.paths import shared

CLASSES, EMBEDDING, SEGMENT = 6, 4, 800


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Four classes with 1 to 4 clips each, and made-up words of a tagger."""
    folder = tmp_path_factory.mktemp("events")
    for label in range(4):
        for clip in range(label + 1):
            samples = tone(0.3, 8000, 100.0 * (label + 1), gain=0.05 * (clip + 1), seed=label * 10 + clip)
            write(folder / "data" / f"class{label}" / f"c{label}{clip}.wav", samples, 8000)
    make_pack(find_recordings(folder / "data", "events"), folder / "pack")
    index = read_index(folder / "pack")
    anchors = tuple(
        Anchor(recording=number, label=one.labels[0], start=100 * number % 1000, score=0.5)
        for number, one in enumerate(index.recordings)
    )
    rows = np.random.default_rng(0).random((len(anchors), CLASSES + EMBEDDING), np.float32)
    np.save(folder / "pack" / ANCHORS_FILE, rows)
    table = AnchorTable(
        tagger="made up",
        classes=tuple(f"/m/{n}" for n in range(CLASSES)),
        embedding_size=EMBEDDING,
        segment=SEGMENT,
        anchors=anchors,
    )
    write_index(folder / "pack", index.model_copy(update={"anchors": table}))
    return Pack.open(folder / "pack")


def _frames(first: int, last: int) -> FloatArray:
    probabilities = np.zeros(1001, np.float32)
    probabilities[first : last + 1] = 1
    return probabilities


@pytest.mark.parametrize(
    ("probabilities", "samples"),
    [
        # bytedance/uss on clips of 10 s at 32 kHz
        (_frames(300, 499), (95_680, 159_680)),
        (np.zeros(1001, np.float32), (0, 64_000)),
        (_frames(950, 1000), (256_000, 320_000)),
    ],
)
def test_mining_agrees_with_the_reference(probabilities: FloatArray, samples: tuple[int, int]) -> None:
    ((start, _),) = mine(probabilities, 200)
    assert (start * 320, (start + 200) * 320) == samples


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6), frames=st.integers(1, 400), half=st.integers(1, 60), most=st.integers(1, 6)
)
def test_anchors_by_brute_force(seed: int, frames: int, half: int, most: int) -> None:
    probabilities = np.random.default_rng(seed).random(frames).astype(np.float32)
    average = [
        np.mean([probabilities[min(max(near, 0), frames - 1)] for near in range(t - half, t + half + 1)])
        for t in range(frames)
    ]
    np.testing.assert_allclose(smoothed(probabilities, 2 * half + 1), average, atol=1e-5)
    found = mine(probabilities, 2 * half, per_clip=most, least_share=0.9)
    starts = [start for start, _ in found]
    best = min(max(int(np.argmax(smoothed(probabilities, 2 * half + 1))), half), max(half, frames - 1 - half))
    assert starts[0] == best - half
    assert len(found) <= most
    assert all(0 <= start <= max(0, frames - 1 - 2 * half) for start in starts)
    assert all(abs(a - b) >= half for i, a in enumerate(starts) for b in starts[:i])
    assert all(score >= 0.9 * found[0][1] for _, score in found[1:])


def test_energies_are_matched_as_by_the_reference() -> None:
    loud, quiet = np.full((1, 10), 0.2, np.float32), np.full((1, 10), 0.1, np.float32)
    silent = np.zeros((1, 10), np.float32)
    assert matched_gain(loud, quiet) == pytest.approx(2)  # energies 0.04 and 0.01
    assert matched_gain(silent, loud) == pytest.approx(0.02)
    assert matched_gain(loud, silent) == pytest.approx(50)


def test_pairs_are_at_0_db_and_asked_for_by_the_clean_target(events: Pack) -> None:
    source = EventPairs(events, EventRules(batch_size=4))
    assert source.condition_size == CLASSES
    rows = np.load(events.folder / ANCHORS_FILE)
    segments = [source.segment(number) for number in range(len(rows))]
    for step in range(5):
        examples = [source.example(7, step, index) for index in range(4)]
        which = []
        for one in examples:
            (number,) = [n for n, segment in enumerate(segments) if np.array_equal(segment, one.targets[0])]
            np.testing.assert_array_equal(one.condition, rows[number, :CLASSES])
            which.append(number)
        for index, one in enumerate(examples):
            partner = segments[which[(index + 1) % 4]]
            rest = one.mixture - one.targets[0]
            gain = matched_gain(one.targets[0], partner)
            np.testing.assert_allclose(rest, partner * gain, atol=1e-6)
            assert np.square(rest).mean() == pytest.approx(np.square(one.targets[0]).mean(), rel=1e-4)
        # four classes in batches of four: each once, so that no partner is of the same class
        labels = {events.index.anchors.anchors[number].label for number in which if events.index.anchors}
        assert len(labels) == 4


def test_classes_come_equally_often_and_so_do_the_clips_of_a_class(events: Pack) -> None:
    source = EventPairs(events, EventRules(batch_size=3))
    numbers = [source._drawn(1, number) for number in range(4 * 12)]
    assert events.index.anchors is not None
    labels = [events.index.anchors.anchors[number].label for number in numbers]
    assert {labels.count(f"class{n}") for n in range(4)} == {12}
    for label, count in {"class0": 12, "class1": 6, "class2": 4, "class3": 3}.items():
        of_class = [n for n, name in zip(numbers, labels, strict=True) if name == label]
        assert {of_class.count(n) for n in set(of_class)} == {count}


def test_an_index_behind_the_batch_is_one_of_a_later_step(events: Pack) -> None:
    source = EventPairs(events, EventRules(batch_size=3, condition="embedding"))
    assert source.condition_size == EMBEDDING
    np.testing.assert_array_equal(source.example(0, 4, 7).mixture, source.example(0, 6, 1).mixture)


def test_events_that_cannot_be_paired_are_refused(events: Pack, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fewer than two classes"):
        EventPairs(events.subset(labels=["class1"]))
    with pytest.raises(InputError, match="800 samples, not 900"):
        EventPairs(events, EventRules(samples=900))
    write(tmp_path / "data" / "a" / "c.wav", tone(0.3, 8000, 100), 8000)
    with pytest.raises(InputError, match="no anchors"):
        EventPairs(open_data(tmp_path / "data", layout="events", cache=tmp_path))


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("dog_bark", "Bark"),
        ("sea_waves", "Waves, surf"),
        ("clock_tick", "Tick"),
        ("person_sneeze", "Sneeze"),
        ("fire_crackling", "Crackle"),
        ("rooster", "Chicken, rooster"),
        ("odd", "Rain"),
    ],
)
def test_labels_find_their_classes(label: str, name: str) -> None:
    assert class_of(label, AnchorRules(classes=(("odd", "Rain"),))).name == name


def test_a_label_of_no_class_asks_for_one() -> None:
    with pytest.raises(OptionError, match="no class of sound is known for the label qzxv"):
        class_of("qzxv", AnchorRules())


@pytest.mark.slow
def test_yamnet_finds_the_sounds_of_clips(tmp_path: Path) -> None:
    wanted = ("dog_bark_1-59513-A.ogg", "rooster_1-34119-B.ogg", "rain_1-17367-A.ogg")
    for name in wanted:
        (tmp_path / "data").mkdir(exist_ok=True)
        shutil.copy(shared("data", "sound_events", name), tmp_path / "data" / name)
    rows = [
        f"{name},{name[: name.index('_', 5)] if name[0] == 'd' else name.split('_')[0]}" for name in wanted
    ]
    (tmp_path / "data" / "labels.csv").write_text("file,label\n" + "\n".join(rows) + "\n")
    rules = PackRules(sample_rate=16000, channels=1, anchors=AnchorRules(per_clip=2))
    pack = open_data(tmp_path / "data", rules, cache=tmp_path / "cache")
    source = EventPairs(pack)
    assert source.labels == ("dog_bark", "rain", "rooster")
    assert {one.split for one in pack.recordings} == {"fold1"}
    assert pack.index.anchors is not None
    best: dict[str, int] = {}
    for number, anchor in enumerate(pack.index.anchors.anchors):
        best.setdefault(anchor.label, number)
    # The bark and the crow stand at the clips' beginnings, silence behind them.
    for label in ("dog_bark", "rooster"):
        assert pack.index.anchors.anchors[best[label]].start < 0.5 * 16000
    # What is stored is what the tagger says of exactly those two seconds.
    from stemwright.models.taggers.session import tagger_session

    for number in best.values():
        heard = tagger_session("yamnet").segment(source.segment(number), 16000)
        np.testing.assert_allclose(source.condition(number), heard.probabilities, atol=1e-6)
    names = {label: class_of(label, AnchorRules()).mid for label in best}
    for label, number in best.items():
        place = pack.index.anchors.classes.index(names[label])
        assert source.condition(number)[place] > 0.3
