"""Queries by class in training: what a served model is asked with."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from stemwright.core.errors import OptionError
from stemwright.training.data.events import EventPairs, EventRules
from stemwright.training.data.pack import ANCHORS_FILE, AUDIO_FILE, Pack
from stemwright.training.data.pack_index import Anchor, AnchorTable, PackIndex, Recording, write_index


@pytest.fixture
def events(tmp_path: Path) -> Pack:
    """Two clips of two classes; the tagger knows four, of which 0 and 1 are of the first label."""
    samples = np.random.default_rng(0).integers(-9000, 9000, (400, 1)).astype(np.int16)
    np.save(tmp_path / AUDIO_FILE, samples)
    np.save(tmp_path / ANCHORS_FILE, np.array([[0.5, 0.25, 0.125, 0, 7], [0.1, 0, 0.9, 0, 7]], np.float32))
    recordings = tuple(
        Recording(
            name=label,
            group=label,
            labels=(label,),
            offset=200 * place,
            frames=200,
            gain=1,
            level=0.2,
            peak=0.3,
        )
        for place, label in enumerate(("dog", "rain"))
    )
    table = AnchorTable(
        tagger="yamnet",
        classes=("a", "b", "c", "d"),
        embedding_size=1,
        segment=100,
        anchors=tuple(
            Anchor(recording=n, label=one.name, start=0, score=1) for n, one in enumerate(recordings)
        ),
        branches={"dog": (0, 1), "rain": (2,)},
    )
    index = PackIndex(
        kind="events",
        layout="events",
        sample_rate=8000,
        channels=1,
        frames=400,
        fingerprint="",
        recordings=recordings,
        anchors=table,
    )
    write_index(tmp_path, index)
    return Pack.open(tmp_path)


def test_only_the_branch_of_the_class_is_asked_for(events: Pack) -> None:
    source = EventPairs(events, EventRules(batch_size=2))
    np.testing.assert_array_equal(source.asked(0), np.array([0.5, 0.25, 0, 0], np.float32))
    np.testing.assert_array_equal(source.asked(1, 0.5), np.array([0, 0, 0.45, 0], np.float32))


def test_a_share_of_the_examples_is_asked_for_by_class(events: Pack) -> None:
    plain = EventPairs(events, EventRules(batch_size=2))
    source = EventPairs(events, EventRules(batch_size=2, asked_share=0.5))
    asked, shares = 0, []
    for step in range(200):
        one, whole = source.example(1, step, 0), plain.example(1, step, 0)
        np.testing.assert_array_equal(one.mixture, whole.mixture)
        assert one.condition is not None and whole.condition is not None
        if not np.array_equal(one.condition, whole.condition):
            asked += 1
            kept = one.condition > 0
            shares += list(one.condition[kept] / whole.condition[kept])
            assert kept.sum() in (1, 2)
    assert 70 < asked < 130
    assert 0.1 <= min(shares) < 0.15
    assert 0.85 < max(shares) <= 1


def test_levels_are_drawn(events: Pack) -> None:
    source = EventPairs(events, EventRules(batch_size=2, snr_db=6.0, level_db=(-20.0, -10.0)))
    own = [float(np.square(source.segment(anchor)).mean()) for anchor in (0, 1)]
    ratios, gains = [], []
    for step in range(100):
        one = source.example(3, step, 0)
        target = float(np.square(one.targets[0]).mean())
        rest = float(np.square(one.mixture - one.targets[0]).mean())
        ratios.append(10 * np.log10(target / rest))
        gains.append(min((10 * np.log10(target / energy) for energy in own), key=lambda db: abs(db + 15)))
    assert -6.1 < min(ratios) < -5
    assert 5 < max(ratios) < 6.1
    assert -20.5 < min(gains) < -19
    assert -11 < max(gains) < -9.5


def test_packs_that_cannot_be_asked_are_told(events: Pack) -> None:
    with pytest.raises(OptionError, match="by class"):
        EventPairs(events, EventRules(condition="embedding", asked_share=0.1))
    assert events.index.anchors is not None
    table = events.index.anchors.model_copy(update={"branches": {}})
    bare = dataclasses.replace(events, index=events.index.model_copy(update={"anchors": table}))
    with pytest.raises(OptionError, match="by class"):
        EventPairs(bare, EventRules(asked_share=0.1))
