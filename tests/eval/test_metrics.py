"""The table of metrics: names, needs, notes; and whole tracks scored in blocks."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.audio.source import ArraySource
from stemwright.core.errors import InputError, OptionError
from stemwright.eval.bss_eval.images import ArrayPairs, ImagesOptions, score_images
from stemwright.eval.bss_eval.scenarios import Chosen, score_scenarios
from stemwright.eval.bss_eval.sources import normalised_sdr, score_sources
from stemwright.eval.measures import speech
from stemwright.eval.measures.contract import Track
from stemwright.eval.metrics import METRICS, parse_metrics, score_track
from stemwright.eval.signal_metrics import sdr, si_sdr

Doubles = npt.NDArray[np.float64]
RATE = 8000
PLAIN = ("bsseval", "bsseval-sources", "nsdr", "sdr", "sdri", "si-sdr", "si-sdr-zero-mean", "si-sdri")


def track(
    seed: int = 0, names: tuple[str, ...] = ("a", "b"), seconds: float = 2.5, *, channels: int = 1
) -> Track:
    random = np.random.default_rng(seed)
    shape = (len(names), channels, int(seconds * RATE))
    references = 0.1 * random.standard_normal(shape).astype(np.float32)
    mixture = references.sum(axis=0)
    estimates = references + 0.1 * (mixture - references)
    estimates += 0.01 * random.standard_normal(references.shape).astype(np.float32)
    pairs = ArrayPairs(names, references.astype(np.float64), estimates.astype(np.float64), RATE)
    return Track(pairs=pairs, mixture=ArraySource(mixture, RATE))


def arrays(one: Track) -> tuple[Doubles, Doubles, Doubles]:
    assert isinstance(one.pairs, ArrayPairs)
    assert one.mixture is not None
    mixture = np.concatenate(list(one.mixture.blocks(1000)), axis=1).astype(np.float64)
    return one.pairs.references, one.pairs.estimates, mixture


def test_every_metric_fills_its_columns() -> None:
    metrics = parse_metrics([*PLAIN, "mrstft", "logmel"])
    scores = score_track(track(), metrics)
    columns = [column for metric in metrics for column in metric.columns]
    for row in scores.values():
        assert list(row.values) == columns
        assert np.isfinite(list(row.values.values())).all()
        assert set(row.frames) == {"SDR", "ISR", "SIR", "SAR"}
        assert row.notes == ()


@pytest.mark.slow
def test_blocks_give_what_whole_signals_give() -> None:
    one = track(1, channels=2)
    references, estimates, mixture = arrays(one)
    scores = score_track(one, parse_metrics(PLAIN))
    joint = score_sources(references, estimates, permute=False)
    for index, row in enumerate(scores.values()):
        true, found = references[index], estimates[index]
        expected = {
            "SDR_song": sdr(true, found),
            "SDRi_song": sdr(true, found) - sdr(true, mixture),
            "SI-SDR": si_sdr(true, found),
            "SI-SDR_zero_mean": si_sdr(true, found, means="removed"),
            "SI-SDRi": si_sdr(true, found) - si_sdr(true, mixture),
            "SDR_sources": joint.sdr[index],
            "SIR_sources": joint.sir[index],
            "SAR_sources": joint.sar[index],
        }
        for column, value in expected.items():
            assert row.values[column] == pytest.approx(value, abs=1e-9), column


def test_normalised_sdr_of_mono_voices() -> None:
    one = track(2)
    references, estimates, mixture = arrays(one)
    for index, row in enumerate(score_track(one, parse_metrics(["nsdr"])).values()):
        expected = normalised_sdr(references[index, 0], mixture[0], estimates[index, 0])
        assert row.values["NSDR"] == pytest.approx(expected, abs=1e-6)


def test_unknown_names() -> None:
    with pytest.raises(OptionError, match="no metric si-srd") as caught:
        parse_metrics(["si-srd"])
    assert "si-sdr" in caught.value.remedy
    assert parse_metrics(["sdr", "sdr"]) == (METRICS["sdr"],)
    with pytest.raises(OptionError, match="both write the column SDR"):
        parse_metrics(["bsseval", "bsseval-exact"])


def test_a_mixture_that_is_needed() -> None:
    one = track(3)
    with pytest.raises(OptionError, match="si-sdri compares with the mixture"):
        score_track(Track(pairs=one.pairs), parse_metrics(["si-sdri"]))
    mixture = arrays(one)[2].astype(np.float32)
    for broken, message in (
        (mixture[:, :-1], "shorter than the stems"),
        (mixture.repeat(2, 0), "2 channels"),
    ):
        with pytest.raises(InputError, match=message):
            score_track(Track(pairs=one.pairs, mixture=ArraySource(broken, RATE)), parse_metrics(["sdri"]))
    longer = np.concatenate([mixture, mixture], axis=1)
    cut = score_track(Track(pairs=one.pairs, mixture=ArraySource(longer, RATE)), parse_metrics(["sdri"]))
    assert cut == score_track(one, parse_metrics(["sdri"]))


@pytest.mark.parametrize("silent", ["reference", "estimate"])
def test_silence_has_no_score_but_a_reason(silent: str) -> None:
    one = track(4, ("a", "b", "c"))
    references, estimates, _ = arrays(one)
    (references if silent == "reference" else estimates)[1] = 0
    names = [*PLAIN, *(["mrstft", "logmel"] if silent == "reference" else [])]
    metrics = parse_metrics([name for name in names if name not in ("sdr", "sdri") or silent == "reference"])
    a, b, _ = score_track(one, metrics).values()
    assert np.isfinite(list(a.values.values())).all()
    assert np.isnan(list(b.values.values())).all()
    for column in b.values:
        assert any(column in note for note in b.notes), column
    if silent == "estimate":  # nothing of the stem is 0 dB, by the definition
        assert score_track(one, parse_metrics(["sdr"]))["b"].values["SDR_song"] == pytest.approx(0)


def test_a_perfect_estimate() -> None:
    one = track(5)
    references, estimates, _ = arrays(one)
    estimates[:] = references
    row = score_track(one, parse_metrics(["bsseval", "si-sdr", "sdr", "mrstft", "logmel"]))["a"]
    assert math.isinf(row.frames["SDR"][0])
    assert math.isnan(row.values["SDR"])
    assert any("infinite" in note for note in row.notes)
    assert row.values["SI-SDR"] == math.inf
    assert row.values["SDR_song"] > 80
    assert row.values["MR-STFT"] == row.values["LogMel"] == 0


@pytest.mark.parametrize("name", [*PLAIN, "logmel"])
def test_values_that_are_not_finite(name: str) -> None:
    one = track(6)
    arrays(one)[1][1, 0, RATE + 5] = np.inf
    with pytest.raises(InputError, match="not finite"):
        score_track(one, parse_metrics([name]))


def test_vocals_and_accompaniment_are_a_pair() -> None:
    one = track(7, ("bass", "drums", "vocals"), channels=2)
    references, estimates, _ = arrays(one)
    names = ("accompaniment", "bass", "drums", "vocals")
    whole = ArrayPairs(
        names,
        np.concatenate([references[:2].sum(axis=0)[None], references]),
        np.concatenate([estimates[:2].sum(axis=0)[None], estimates]),
        RATE,
    )
    options = ImagesOptions(taps=32)
    found = score_scenarios(whole, options)
    pair = score_images(Chosen(whole, ("vocals", "accompaniment")), options).values
    singles = score_images(Chosen(whole, ("bass", "drums", "vocals")), options).values
    np.testing.assert_array_equal(
        found.values, np.stack([pair[:, 1], singles[:, 0], singles[:, 1], pair[:, 0]], 1)
    )
    assert not np.array_equal(pair[:, 0], singles[:, 2])
    assert found.names == names


@dataclass(frozen=True)
class Endless:
    """A recording that is never held: counts what is alive of its blocks."""

    names: tuple[str, ...]
    samples: int
    sample_rate: int
    sizes: list[int]

    def blocks(self, size: int) -> Iterator[tuple[Doubles, Doubles]]:
        random = np.random.default_rng(0)
        for start in range(0, self.samples, size):
            count = min(size, self.samples - start)
            self.sizes.append(count)
            references = random.standard_normal((len(self.names), 1, count))
            yield references, references + 0.1 * random.standard_normal(references.shape)


def test_blocks_are_short_whatever_the_length() -> None:
    pairs = Endless(("a",), 12 * RATE, RATE, [])
    score_track(Track(pairs=pairs), parse_metrics([*(n for n in PLAIN if not METRICS[n].needs), "mrstft"]))
    assert max(pairs.sizes) < 2 * RATE


@pytest.mark.slow
def test_speech_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    one = track(8, ("a",), seconds=4.0)
    references, estimates, _ = arrays(one)
    references[:], estimates[:] = 5 * bursts(references), 5 * bursts(estimates)
    names = ["stoi", "estoi", "pesq-nb"]
    whole = score_track(one, parse_metrics(names))["a"]
    assert whole.notes == ()
    monkeypatch.setattr(speech, "PIECE_S", 2.0)
    pieces = score_track(one, parse_metrics(names))["a"]
    assert any("mean over 2 pieces of 2 s" in note for note in pieces.notes)
    halves = [
        score_track(
            Track(pairs=ArrayPairs(("a",), references[..., span], estimates[..., span], RATE)),
            parse_metrics(names),
        )["a"].values
        for span in (np.s_[: 2 * RATE], np.s_[2 * RATE :])
    ]
    for column, value in pieces.values.items():
        assert value == pytest.approx(np.mean([half[column] for half in halves]))


def bursts(signal: Doubles) -> Doubles:
    """Speech comes and goes: PESQ looks for utterances."""
    time = np.arange(signal.shape[-1]) / RATE
    return np.asarray(signal * (np.sin(2 * np.pi * 0.9 * time) ** 2 > 0.3))


@pytest.mark.slow
def test_dnsmos_tells_what_was_done_to_the_signal() -> None:
    one = track(9, ("a",), seconds=3.0)
    arrays(one)[1][:] *= 20
    row = score_track(one, parse_metrics(["dnsmos"]))["a"]
    assert len(row.values) == 4
    assert all(0.5 < value < 5.5 for value in row.values.values())
    told = "; ".join(row.notes)
    assert "resampled from 8000 to 16000 Hz" in told
    assert "shorter than 9.01 s" in told
    assert "dB to fit full scale" in told


def test_speech_of_silence_and_of_too_little() -> None:
    one = track(10, seconds=1.5)
    references, estimates, _ = arrays(one)
    references[0] = 0
    estimates[1, :, : RATE // 2 * 3 - 800] = 0
    references[1, :, : RATE // 2 * 3 - 800] = 0
    silent, short = score_track(one, parse_metrics(["stoi", "pesq"])).values()
    assert np.isnan(list(silent.values.values())).all()
    assert "pesq: the reference is silent" in silent.notes
    assert math.isnan(short.values["STOI"])
    assert any("less than 30 frames" in note for note in short.notes)


@pytest.mark.parametrize(
    ("metric", "module"), [("pesq", "pesq"), ("stoi", "pystoi"), ("dnsmos", "speechmos.dnsmos")]
)
def test_a_package_that_is_not_installed(metric: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(OptionError, match="not installed") as caught:
        score_track(track(11, seconds=0.1), parse_metrics([metric]))
    assert "stemwright[eval]" in caught.value.remedy


def test_the_table_loads_no_speech_package() -> None:
    """Kept cheap: the packages are imported when their metrics are asked for."""
    assert {"pesq", "stoi", "dnsmos"} <= set(METRICS)
    assert isinstance(METRICS["mrstft"].options["n_ffts"], str)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(0.01, 50), sign=st.sampled_from([-1.0, 1.0]))
def test_laws_of_scale(seed: int, factor: float, sign: float) -> None:
    """SI-SDR knows no scale of the estimate, nor one of both signals, nor the order of the stems."""
    one = track(seed % 1000, seconds=0.5)
    references, estimates, _ = arrays(one)
    metrics = parse_metrics(["si-sdr", "si-sdr-zero-mean"])
    scaled = ArrayPairs(("a", "b"), references, sign * factor * estimates, RATE)
    both = ArrayPairs(("b", "a"), factor * references[::-1], factor * estimates[::-1], RATE)
    first = score_track(one, metrics)
    for other in (scaled, both):
        rows = score_track(Track(pairs=other), metrics)
        for name, row in first.items():
            for column, value in row.values.items():
                assert rows[name].values[column] == pytest.approx(value, abs=1e-7)
