"""Pairing of estimates with true stems: names, sums, orders, lengths, rates."""

import itertools
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemwright.core.audio.source import ArraySource
from stemwright.core.errors import InputError
from stemwright.eval.datasets.sources import Named
from stemwright.eval.pairing import best_order, pair_sources
from stemwright.eval.signal_metrics import si_sdr
from stemwright.eval.stem_folders import open_stem_folders
from stemwright.eval.stem_plans import ScoredStem, plan_stems
from tests.support.data_sets import RATE, Samples, noise, write


def named(name: str, samples: Samples, rate: int = RATE) -> Named:
    return Named(name, ArraySource(samples.astype(np.float32), rate))


def test_stems_are_paired_by_name() -> None:
    plan = plan_stems(("bass", "vocals"), ("vocals", "drums", "bass"))
    assert plan.stems == tuple(
        ScoredStem(name=name, references=(name,), estimates=(name,)) for name in ("bass", "vocals")
    )
    assert plan.notes == ("drums is not scored: there is no reference",)


def test_a_stem_that_the_estimates_lack_is_told() -> None:
    plan = plan_stems(("vocals", "bass", "piano"), ("vocals", "bass"))
    assert plan.notes == ("piano is not scored: there is no estimate",)


def test_the_accompaniment_is_the_sum_of_the_others() -> None:
    plan = plan_stems(("vocals", "accompaniment"), ("drums", "bass", "other", "vocals"))
    assert plan.stems[1] == ScoredStem(
        name="accompaniment", references=("accompaniment",), estimates=("drums", "bass", "other")
    )
    assert plan.notes == ("the accompaniment's estimate is the sum of drums, bass, other",)
    back = plan_stems(("drums", "bass", "other", "vocals"), ("vocals", "no_vocals"))
    assert back.stems[1] == ScoredStem(
        name="accompaniment", references=("drums", "bass", "other"), estimates=("no_vocals",)
    )
    # once added up, the single stems are not missing
    assert [note for note in back.notes if "not scored" in note] == []


def test_vocals_have_several_names() -> None:
    plan = plan_stems(("voice", "instrumental"), ("vocals", "accompaniment"))
    assert [(stem.name, stem.estimates) for stem in plan.stems] == [
        ("voice", ("vocals",)),
        ("instrumental", ("accompaniment",)),
    ]


def test_nothing_in_common() -> None:
    with pytest.raises(InputError, match="none in common"):
        plan_stems(("vocals",), ("dog", "rain"))


NAMES = ["drums", "bass", "other", "vocals", "piano", "guitar", "accompaniment", "no_vocals", "residual"]
SETS = st.sets(st.sampled_from(NAMES), min_size=1)


@given(SETS, SETS)
def test_every_stem_is_scored_or_told_of(true: set[str], found: set[str]) -> None:
    try:
        plan = plan_stems(sorted(true), sorted(found))
    except InputError:
        return
    scored = {name for stem in plan.stems for name in stem.references}
    told = {note.split(" ")[0] for note in plan.notes if "no estimate" in note}
    assert scored | told == true and not scored & told
    assert {name for stem in plan.stems for name in stem.estimates} <= found
    assert len({stem.name for stem in plan.stems}) == len(plan.stems)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_order_is_that_of_all_orders(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count, extra, channels = (
        int(generator.integers(1, 5)),
        int(generator.integers(0, 2)),
        int(generator.integers(1, 3)),
    )
    true = generator.standard_normal((count, channels, 500))
    mixing = generator.standard_normal((count + extra, count))
    found = np.einsum("kj,jct->kct", mixing, true) + generator.standard_normal((count + extra, channels, 500))
    order = best_order(
        [named(f"r{i}", true[i]) for i in range(count)],
        [named(f"e{i}", found[i]) for i in range(count + extra)],
    )

    def mean(chosen: tuple[int, ...]) -> float:
        return float(np.mean([si_sdr(true[i], found[k]) for i, k in enumerate(chosen)]))

    best = max(itertools.permutations(range(count + extra), count), key=mean)
    assert mean(order) == pytest.approx(mean(best), abs=1e-6)


def test_exact_and_silent_estimates_have_an_order() -> None:
    true = [noise(index) for index in range(2)]
    found = [np.zeros_like(true[0]), true[0]]
    order = best_order(
        [named("a", true[0]), named("b", true[1])], [named("x", found[0]), named("y", found[1])]
    )
    assert order == (1, 0)


def test_more_speakers_than_estimates() -> None:
    with pytest.raises(InputError, match="1 estimates of 2 stems"):
        best_order([named("a", noise(0)), named("b", noise(1))], [named("x", noise(2))])


def test_what_is_longer_by_less_than_a_frame_is_trimmed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        pairs = pair_sources(["v"], [named("true", noise(0))], [named("found", noise(0, 2 * RATE + 7))])
    assert pairs.notes == ("found is 7 samples longer than true: trimmed",)
    assert "7 samples longer" in caplog.text
    assert pairs.samples == 2 * RATE
    assert sum(block.shape[-1] for block, _ in pairs.blocks(999)) == 2 * RATE


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (noise(0, 3 * RATE), RATE, "found is 1.0 s longer than true"),
        (noise(0), 2 * RATE, "found has 16000 Hz, true 8000 Hz"),
        (noise(0, channels=1), RATE, "found has 1 channels, true 2"),
    ],
)
def test_what_does_not_belong_together(samples: Samples, rate: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pair_sources(["v"], [named("true", noise(0))], [named("found", samples, rate)])


def two_folders(tmp_path: Path) -> tuple[Path, Path]:
    for index, name in enumerate(("bass", "vocals")):
        write(tmp_path / "true" / f"{name}.wav", noise(index))
        write(tmp_path / "found" / f"{name}.wav", noise(index) + 0.1 * noise(9))
    write(tmp_path / "true" / "mixture.wav", noise(0) + noise(1))
    return tmp_path / "true", tmp_path / "found"


def test_folders_that_were_exchanged_are_recognised(tmp_path: Path) -> None:
    true, found = two_folders(tmp_path)
    assert open_stem_folders(true, found).names == ("bass", "vocals")
    with pytest.raises(InputError, match="holds the mixture") as refused:
        open_stem_folders(found, true)
    assert "exchange --reference and --estimate" in refused.value.remedy
    (found / "result.json").write_text("{}")
    with pytest.raises(InputError, match="holds stems that were separated"):
        open_stem_folders(found, true)


def test_a_folder_of_nothing_but_a_mixture(tmp_path: Path) -> None:
    true, found = two_folders(tmp_path)
    for name in ("bass", "vocals"):
        (true / f"{name}.wav").unlink()
    with pytest.raises(InputError, match="nothing but a mixture"):
        open_stem_folders(true, found)


def test_a_sample_that_is_no_number_is_told_with_its_time(tmp_path: Path) -> None:
    true, found = two_folders(tmp_path)
    samples = noise(0)
    samples[1, 6000] = np.inf
    write(found / "bass.wav", samples)
    with pytest.raises(InputError, match=r"bass\.wav has a NaN or infinite sample at 0\.750 s"):
        open_stem_folders(true, found)
