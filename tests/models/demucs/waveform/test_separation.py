"""Recordings separated by small networks of v2 and v3 against demucs' own inference around the references."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from demucs.apply import apply_model
from demucs.demucs import Demucs as ReferenceDemucs

from stemwright.core.arrays import FloatArray
from stemwright.models.demucs.architectures import (
    AUDIO,
    DEMUCS_V2,
    DEMUCS_V3,
    NORMALISATION,
    Architecture,
)
from stemwright.models.demucs.configs import SAMPLE_RATE, PaperDemucsConfig, TimeDemucsConfig
from stemwright.models.demucs.export import export_core, random_network
from stemwright.models.demucs.network import Network, build_network
from stemwright.models.demucs.waveform.layers import trim_centre
from stemwright.models.graphs.export import make_checked_weightless, state_of
from stemwright.models.manifest import GRAPH_FILE, MANIFEST_FILE, UNKNOWN_LICENCE, Manifest
from stemwright.models.registry.model_files import finish_manifest
from stemwright.models.registry.store import open_model
from stemwright.models.separation.separator import Separator
from stemwright.models.sessions.opening import SessionOptions
from tests.models.demucs.waveform.transcription import Transcription
from tests.support.demucs_files import STEMS
from tests.support.fake_sessions import FakeSession, fake_member, noise, separate_array

SEGMENT = SAMPLE_RATE // 2
SMALL_V2 = replace(DEMUCS_V2, config=PaperDemucsConfig(channels=8), segment_samples=SEGMENT)
SMALL_V3 = replace(DEMUCS_V3, config=TimeDemucsConfig(channels=4), segment_samples=SEGMENT)
LENGTHS = (SEGMENT // 3, SEGMENT, 4 * SEGMENT + 77)


class PaperReference(torch.nn.Module):
    """The transcribed network of the paper as a model that demucs' inference takes."""

    sources, samplerate, segment = STEMS, SAMPLE_RATE, Fraction(SEGMENT, SAMPLE_RATE)

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self._network = Transcription(state, resample=True)

    def forward(self, mix: torch.Tensor) -> torch.Tensor:
        return self._network(mix)


def filled(network: Network) -> Network:
    """Random weights: every layer counts, none is so loud that rounding grows from step to step."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 25
            parameter.copy_(values * (0.5 if "lstm" in name else 1) / fan_in**0.5)
    return network.eval()


def manifest_of(architecture: Architecture) -> Manifest:
    return Manifest(
        name="small",
        family="demucs",
        licence=UNKNOWN_LICENCE,
        stems=tuple(STEMS),
        audio=AUDIO,
        plan=architecture.plan,
        graph=architecture.graph,
        normalisation=NORMALISATION,
    )


def install(architecture: Architecture, network: Network, folder: Path) -> Path:
    """Write the model folder that a checkpoint of this network becomes."""

    def export(seed: int) -> Any:
        other = random_network(architecture, seed)
        return export_core(other, architecture), state_of(other)

    graph = make_checked_weightless(export, verify=False).fill(state_of(network), "float32")
    folder.mkdir()
    (folder / GRAPH_FILE).write_bytes(graph.SerializeToString())
    (folder / MANIFEST_FILE).write_text(manifest_of(architecture).model_dump_json())
    finish_manifest(folder)
    return folder


def reference_separates(model: Any, samples: FloatArray) -> FloatArray:
    """`demucs.separate` of 4.1.0 and of the branch v2: the mono track's mean and deviation out and in."""
    mixture = torch.from_numpy(samples)
    mono = mixture.mean(0)
    with torch.no_grad():
        scaled = ((mixture - mono.mean()) / mono.std())[None]
        stems = apply_model(model, scaled, shifts=0, overlap=0.25)[0]
    return np.asarray((stems * mono.std() + mono.mean()).numpy())


def errors(separator: Separator, reference: Any, frames: int) -> FloatArray:
    """Largest difference at each sample of a recording, over the reference's deviation."""
    samples = noise(2, frames, seed=frames, level=0.2)
    expected = reference_separates(reference, samples)
    found = separate_array(separator, samples, SAMPLE_RATE)
    stems = np.stack([found[name] for name in STEMS])
    assert stems.shape == expected.shape
    worst: FloatArray = np.abs(stems - expected).max(axis=(0, 1)) / expected.std()
    return worst


@pytest.mark.slow
def test_version_2_through_onnx_runtime(tmp_path: Path) -> None:
    """Its output is shorter than its input: the segment lies in the middle of what a call hears."""
    network = filled(build_network(SMALL_V2.config))
    reference = PaperReference(dict(network.state_dict()))
    reference.valid_length = lambda _: SMALL_V2.input_samples  # type: ignore[assignment]
    model = open_model(install(SMALL_V2, network, tmp_path / "small"))
    options = SessionOptions(device="cpu", precision="float32", cache_dir=tmp_path / "cache")
    with Separator.open(model, options=options) as separator:
        for frames in LENGTHS:
            assert errors(separator, reference, frames).max() < 1e-4


@pytest.fixture
def version_3() -> Iterator[tuple[Separator, Any]]:
    """The separator around our network in torch (its graph: ../test_export.py), and the reference."""
    network = filled(build_network(SMALL_V3.config))

    def run(windows: FloatArray) -> FloatArray:
        with torch.inference_mode():
            whole = network(torch.from_numpy(windows))
            return np.asarray(trim_centre(whole, SMALL_V3.segment_samples).numpy())

    reference = ReferenceDemucs(STEMS, channels=4, samplerate=SAMPLE_RATE, segment=SEGMENT / SAMPLE_RATE)
    reference.load_state_dict(network.state_dict(), strict=True)
    member = fake_member(FakeSession(network=run, batch_limit=1), manifest_of(SMALL_V3))
    with Separator([member], tuple(STEMS)) as separator:
        yield separator, reference


@pytest.mark.slow
def test_version_3(version_3: tuple[Separator, Any]) -> None:
    separator, reference = version_3
    reference.valid_length = lambda _: SMALL_V3.input_samples
    for frames in LENGTHS:
        assert errors(separator, reference, frames).max() < 1e-4


@pytest.mark.slow
def test_only_what_ends_after_the_recording_is_heard_otherwise(version_3: tuple[Separator, Any]) -> None:
    """The reference makes its last calls as short as what is left; a graph's calls have one length."""
    separator, reference = version_3
    frames = LENGTHS[-1]
    stride = int(0.75 * SEGMENT)
    first_cut = next(start for start in range(0, frames, stride) if start + SEGMENT > frames)
    worst = errors(separator, reference, frames)
    assert worst[:first_cut].max() < 1e-4
    assert worst[first_cut:].max() > 1e-3
