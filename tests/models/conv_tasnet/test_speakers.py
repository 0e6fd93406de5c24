"""The speech manifest with an oracle for a network: from whole recordings to speakers in one order."""

import dataclasses
import itertools

import numpy as np
import pytest

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import ArraySource
from stemwright.models.conv_tasnet.building import manifest_of_variant
from stemwright.models.conv_tasnet.configs import PAPER, PAPER_CAUSAL, TORCHAUDIO
from stemwright.models.conv_tasnet.graph import build_graph
from stemwright.models.conv_tasnet.origins import Variant
from stemwright.models.manifest import Manifest
from stemwright.models.separation.separator import Separator
from tests.support.conv_tasnet import random_tensors, small
from tests.support.fake_sessions import FakeSession, collect, fake_member

RATE = 8000


def manifest(speakers: int) -> Manifest:
    config = dataclasses.replace(TORCHAUDIO, sources=speakers)
    return manifest_of_variant(Variant(naming="torchaudio", config=config), name="speech")


def voices(count: int, seconds: float) -> FloatArray:
    """Noises in bands of their own, shape=(count, n), that rise and fall and pause on their own."""
    frames = round(seconds * RATE)
    generator = np.random.default_rng(0)
    spectra = np.fft.rfft(generator.standard_normal((count, frames)))
    edges = np.linspace(0, spectra.shape[1], count + 1).astype(int)
    for index in range(count):
        spectra[index, : edges[index]] = 0
        spectra[index, edges[index + 1] :] = 0
    times = np.arange(frames) / RATE
    rates = 0.31 + 0.17 * np.arange(count)[:, None]
    level = np.clip(np.sin(2 * np.pi * rates * times) + 0.7, 0.0, None)
    return (np.fft.irfft(spectra, frames) * level * 0.1).astype(np.float32)


class Oracle:
    """Separates the bands of any window, and puts them in another order in every call, at an odd scale."""

    def __init__(self, count: int) -> None:
        self.orders = itertools.cycle(itertools.permutations(range(count)))
        self.count = count
        self.lengths: list[int] = []

    def __call__(self, windows: FloatArray) -> FloatArray:
        frames = windows.shape[-1]
        self.lengths.append(frames)
        spectra = np.fft.rfft(windows[:, 0].astype(np.float64))
        parts = []
        edges = np.linspace(0, spectra.shape[1], self.count + 1).astype(int)
        for index in range(self.count):
            band = np.zeros_like(spectra)
            band[:, edges[index] : edges[index + 1]] = spectra[:, edges[index] : edges[index + 1]]
            parts.append(np.fft.irfft(band, frames) * (2.0 + index))
        order = next(self.orders)
        return np.stack([parts[index] for index in order], axis=1)[:, :, None].astype(np.float32)


@pytest.mark.parametrize("seconds", [3.0, 8.0, 29.3])
@pytest.mark.parametrize("count", [2, 3])
def test_speakers_keep_their_place_and_get_their_level(count: int, seconds: float) -> None:
    oracle, true = Oracle(count), voices(count, seconds)
    made = manifest(count)
    separator = Separator([fake_member(FakeSession(network=oracle, batch_limit=1), made)], made.stems)
    with separator:
        found = collect(separator.separate(ArraySource(true.sum(axis=0, keepdims=True), RATE)))
    stems = np.stack([found[name][0] for name in made.stems])
    first = [int(np.argmax(np.abs(true @ stem))) for stem in stems]
    assert sorted(first) == list(range(count))
    error = stems - true[first]
    assert 10 * np.log10(np.square(true).sum() / np.square(error).sum()) > 20
    if seconds > 8:
        assert len(oracle.lengths) == 8
        assert set(oracle.lengths) == {8 * RATE}
    else:
        # A recording of up to one window runs at its own length, in whole hops.
        assert oracle.lengths == [round(seconds * RATE / made.plan.multiple) * made.plan.multiple]


def test_a_causal_model_needs_no_bringing_into_order() -> None:
    made = manifest_of_variant(Variant(naming="asteroid", config=small(PAPER_CAUSAL)), name="live")
    assert made.streaming is not None
    assert made.streaming.latency_samples == 8
    assert (made.plan.overlap, made.plan.window, made.plan.time) == (0, "rectangular", "variable")
    # A factor over the whole recording is not known while a stream goes on.
    assert made.scale_fit is None
    assert made.graph.batch == "one"


def test_one_voice_is_called_speech() -> None:
    one = manifest_of_variant(Variant(naming="asteroid", config=small(PAPER, sources=1)), name="enhance")
    assert (one.stems, one.stem_kind) == (("speech",), "fixed")


def test_ports_are_those_of_the_graph() -> None:
    for config in (small(PAPER), small(PAPER_CAUSAL)):
        made = manifest_of_variant(Variant(naming="asteroid", config=config), name="speech")
        graph = build_graph(config, random_tensors(config)).graph
        assert made.graph.input_names == tuple(port.name for port in graph.input)
        assert made.graph.output_names == tuple(port.name for port in graph.output)
