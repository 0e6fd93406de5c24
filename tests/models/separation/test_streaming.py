from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InputError, OptionError
from stemwright.models.conv_tasnet.configs import PAPER, PAPER_CAUSAL
from stemwright.models.manifest import Manifest
from stemwright.models.registry.store import InstalledModel, open_model
from stemwright.models.separation.separator import Separator
from stemwright.models.separation.streaming import StreamSession
from stemwright.models.sessions.opening import Session, SessionOptions, open_session
from tests.support.conv_tasnet import install_conv_tasnet, small
from tests.support.fake_sessions import separate_array
from tests.support.tiny_models import install_tiny_model

CPU = "cpu"
WINDOW = 800  # samples a call at most, so that short recordings take several


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    install_conv_tasnet(folder, small(PAPER_CAUSAL), "mono", window=WINDOW)
    install_conv_tasnet(folder, small(PAPER_CAUSAL, audio_channels=2), "stereo", window=WINDOW)
    install_conv_tasnet(folder, small(PAPER_CAUSAL, edges="inside"), "inside", window=WINDOW)
    install_conv_tasnet(folder, small(PAPER), "whole", window=WINDOW)
    return folder


def options(folder: Path) -> SessionOptions:
    return SessionOptions(device=CPU, cache_dir=folder / "cache")


class Opened:
    """A model's manifest and session, for as many streams and separations as are wanted."""

    def __init__(self, folder: Path) -> None:
        model = open_model(folder)
        assert isinstance(model, InstalledModel)
        self.folder = folder
        self.manifest: Manifest = model.manifest
        self.session: Session = open_session(model, options(folder))

    def streamed(self, samples: FloatArray, sizes: Sequence[int], rate: int = 8000) -> FloatArray:
        """Stems of a recording that comes in pieces of these sizes, over and over."""
        stream = StreamSession(self.manifest, self.session, sample_rate=rate, channels=samples.shape[0])
        parts, place, index = [], 0, 0
        while place < samples.shape[1]:
            size = sizes[index % len(sizes)]
            parts.append(stream.push(samples[:, place : place + size]))
            place, index = place + size, index + 1
        parts.append(stream.flush())
        assert stream.pending == 0
        return np.concatenate(parts, axis=-1)

    def separated(self, samples: FloatArray, rate: int = 8000) -> FloatArray:
        """Stems of a recording as a file."""
        with Separator.open(self.folder, options=options(self.folder)) as separator:
            return np.stack(list(separate_array(separator, samples, rate).values()))


@pytest.fixture(scope="module", params=["mono", "stereo", "inside"])
def opened(request: pytest.FixtureRequest, models: Path) -> Iterator[Opened]:
    made = Opened(models / request.param)
    yield made
    made.session.close()


@pytest.fixture(scope="module")
def mono(models: Path) -> Iterator[Opened]:
    made = Opened(models / "mono")
    yield made
    made.session.close()


def noise(channels: int, frames: int, seed: int = 0) -> FloatArray:
    return (np.random.default_rng(seed).standard_normal((channels, frames)) * 0.1).astype(np.float32)


def assert_equal(found: FloatArray, expected: FloatArray, tolerance: float = 1e-5) -> None:
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=6),
    frames=st.integers(1, 3000),
    seed=st.integers(0, 9),
)
def test_any_pieces_give_the_stems_of_the_file(
    opened: Opened, sizes: list[int], frames: int, seed: int
) -> None:
    samples = noise(opened.manifest.audio.channels, frames, seed)
    whole = opened.streamed(samples, [frames])
    sizes = [*sizes, 600]  # a long way in single samples takes seconds
    assert_equal(opened.streamed(samples, sizes), whole)


@pytest.mark.parametrize("frames", [1, 7, 8, 799, 800, 801, 5003])
def test_a_stream_is_what_the_separator_makes_of_the_file(opened: Opened, frames: int) -> None:
    samples = noise(opened.manifest.audio.channels, frames)
    assert_equal(opened.streamed(samples, [160]), opened.separated(samples))


def test_single_samples_and_two_milliseconds(mono: Opened) -> None:
    samples = noise(1, 300)
    whole = mono.separated(samples)
    assert_equal(mono.streamed(samples, [1]), whole)
    assert_equal(mono.streamed(samples, [16]), whole)


def test_latency_is_what_is_said(mono: Opened) -> None:
    stream = StreamSession(mono.manifest, mono.session)
    assert (stream.latency.model_s, stream.latency.resampling_s) == (0.002, 0)
    given = 0
    for taken in range(1, 200):
        given += stream.push(noise(1, 1, taken)).shape[-1]
        assert stream.pending == taken - given < stream.latency.algorithmic_s * 8000
        # A hop is given as soon as it and the next one are there.
        assert given == max(0, taken // 8 * 8 - 8)


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (16_000, 1), (8000, 3), (11_025, 2)])
def test_another_rate_or_more_channels_are_as_with_a_file(mono: Opened, rate: int, channels: int) -> None:
    samples = noise(channels, rate // 3 + 1)
    found = mono.streamed(samples, [rate // 50, 3], rate)
    assert found.shape == (2, channels, samples.shape[1])
    assert_equal(found, mono.separated(samples, rate))


def test_a_stereo_model_takes_a_mono_stream(models: Path) -> None:
    made = Opened(models / "stereo")
    samples = noise(1, 1000)
    assert_equal(made.streamed(samples, [100]), made.separated(samples))
    made.session.close()


def test_resampling_says_how_late_it_is(mono: Opened) -> None:
    stream = StreamSession(mono.manifest, mono.session, sample_rate=44_100)
    bound = stream.latency.algorithmic_s * 44_100
    assert stream.latency.resampling_s > 0
    worst = 0
    for _ in range(300):
        stream.push(noise(1, 441))
        worst = max(worst, stream.pending)
    assert 0.3 * bound < worst < bound + 441


def test_streams_that_share_a_session_do_not_hear_each_other(mono: Opened) -> None:
    one, other = noise(1, 800), noise(1, 800, seed=1)
    streams = [StreamSession(mono.manifest, mono.session) for _ in range(2)]
    parts: list[list[FloatArray]] = [[], []]
    for start in range(0, 800, 80):
        for index, samples in enumerate((one, other)):
            parts[index].append(streams[index].push(samples[:, start : start + 80]))
    for index, samples in enumerate((one, other)):
        parts[index].append(streams[index].flush())
        assert_equal(np.concatenate(parts[index], -1), mono.streamed(samples, [800]))


def test_silence_and_nothing(mono: Opened) -> None:
    stream = StreamSession(mono.manifest, mono.session)
    assert stream.push(np.zeros((1, 0), np.float32)).shape == (2, 1, 0)
    assert stream.flush().shape == (2, 1, 0)
    assert stream.flush().shape == (2, 1, 0)
    assert not mono.streamed(np.zeros((1, 500), np.float32), [50]).any()


def test_misuse_is_told(mono: Opened) -> None:
    stream = StreamSession(mono.manifest, mono.session)
    with pytest.raises(ValueError, match="shape"):
        stream.push(noise(2, 10))
    with pytest.raises(InputError, match="not finite"):
        stream.push(np.full((1, 10), np.nan, np.float32))
    stream.flush()
    with pytest.raises(ValueError, match="ended"):
        stream.push(noise(1, 10))
    with pytest.raises(OptionError, match="cannot be streamed"):
        StreamSession(mono.manifest, mono.session, channels=0)


def test_models_without_a_state_are_refused(models: Path, tmp_path: Path) -> None:
    for folder in (models / "whole", install_tiny_model(tmp_path)):
        with pytest.raises(OptionError, match="cannot be streamed: it hears sound") as refused:
            StreamSession.open(folder, options=options(tmp_path))
        assert "stemwright separate" in refused.value.remedy


def test_opening_by_path_takes_the_cpu_and_closes(models: Path) -> None:
    with StreamSession.open(models / "mono", options=SessionOptions(cache_dir=models / "cache")) as stream:
        assert stream.facts.provider == "cpu"
        assert stream.stems == ("speaker1", "speaker2")
        assert (stream.sample_rate, stream.channels) == (8000, 1)
    with pytest.raises(ValueError, match="ended"):
        stream.push(noise(1, 10))
