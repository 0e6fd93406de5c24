"""Every role's shapes and order, against torch and against known answers."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError
from stemwright.core.transforms import Transform
from stemwright.models.graphs.roles import model_inputs, stems_from_outputs
from stemwright.models.manifest import Graph, GraphInput, GraphOutput
from tests.support.transforms import FAMILIES, HTDEMUCS, noise, relative_error

SMALL = Transform(n_fft=256, hop=64)  # its round trip is the identity
SAMPLES = 2000


def graph(inputs: tuple[str, ...], outputs: tuple[str, ...], transform: Transform | None = SMALL) -> Graph:
    """Signature whose ports are named after their roles."""
    return Graph.model_validate(
        {
            "inputs": [GraphInput(name=f"in_{role}", role=role) for role in inputs],  # type: ignore[arg-type]
            "outputs": [GraphOutput(name=f"out_{role}", role=role) for role in outputs],  # type: ignore[arg-type]
            "transform": transform,
        }
    )


def as_role(role: str, stems: FloatArray, mixture: FloatArray, transform: Transform) -> FloatArray:
    """What a perfect network of this role would put out for the stems [B, S, C, T]."""
    spectra = transform.forward(stems)
    mixed = transform.forward(mixture)[:, None]
    if role == "waveform":
        return stems
    if role == "cac":
        planes = [
            part for c in range(stems.shape[2]) for part in (spectra[:, :, c].real, spectra[:, :, c].imag)
        ]
        return np.stack(planes, axis=2)
    if role == "spectra":
        return np.stack([spectra.real, spectra.imag], axis=-1)
    if role == "complex_mask":
        mask = spectra / mixed
        return np.stack([mask.real, mask.imag], axis=-1)
    return (np.abs(spectra) / np.abs(mixed)).astype(np.float32)


class TestInputs:
    def test_all_roles_at_once(self) -> None:
        waveform = noise(3, 2, SAMPLES)
        truth = torch.stft(
            torch.from_numpy(waveform.reshape(6, SAMPLES)),
            256,
            64,
            window=torch.hann_window(256),
            return_complex=True,
        ).numpy()
        truth = truth.reshape(3, 2, *truth.shape[1:])
        built = model_inputs(graph(("waveform", "cac", "complex", "magnitude"), ("waveform",)), waveform)
        assert built.spectrum is None
        assert {array.dtype for array in built.arrays.values()} == {np.dtype(np.float32)}
        assert built.arrays["in_waveform"] is waveform
        cac = np.stack([truth[:, 0].real, truth[:, 0].imag, truth[:, 1].real, truth[:, 1].imag], axis=1)
        pairs = np.stack([truth.real, truth.imag], axis=-1)
        assert relative_error(built.arrays["in_cac"], cac) < 1e-5
        assert relative_error(built.arrays["in_complex"], pairs) < 1e-5
        assert relative_error(built.arrays["in_magnitude"], np.abs(truth)) < 1e-5

    def test_complex_as_channels_alone_is_the_same(self) -> None:
        waveform = noise(1, 2, SAMPLES)
        together = model_inputs(graph(("cac", "complex"), ("cac",)), waveform).arrays["in_cac"]
        alone = model_inputs(graph(("cac",), ("cac",)), waveform).arrays["in_cac"]
        np.testing.assert_array_equal(alone, together)

    def test_the_spectrum_is_kept_for_masks_only(self) -> None:
        waveform = noise(1, 1, SAMPLES)
        assert model_inputs(graph(("magnitude",), ("spectra",)), waveform).spectrum is None
        kept = model_inputs(graph(("waveform",), ("mask",)), waveform).spectrum
        assert kept is not None
        np.testing.assert_array_equal(kept, SMALL.forward(waveform))

    def test_no_spectrum_is_computed_for_waveforms(self) -> None:
        short = noise(1, 1, 3)  # too short for any frame
        assert model_inputs(graph(("waveform",), ("waveform",)), short).arrays["in_waveform"] is short

    def test_the_shapes_of_the_released_demucs(self) -> None:
        built = model_inputs(graph(("waveform", "cac"), ("cac", "waveform"), HTDEMUCS), noise(1, 2, 20_480))
        assert built.arrays["in_cac"].shape == (1, 4, 2048, 20)


class TestOutputs:
    @pytest.mark.parametrize("role", ["waveform", "cac", "spectra", "complex_mask"])
    def test_one_output_gives_the_stems_back(self, role: str) -> None:
        stems = noise(2, 3, 2, SAMPLES)
        mixture = stems.sum(axis=1)
        signature = graph(("waveform",), (role,))
        outputs = {f"out_{role}": as_role(role, stems, mixture, SMALL)}
        spectrum = model_inputs(signature, mixture).spectrum
        result = stems_from_outputs(signature, outputs, spectrum, SAMPLES)
        assert result.shape == stems.shape and result.dtype == np.float32
        assert relative_error(result, stems) < 2e-5

    def test_mask_scales_the_mixture(self) -> None:
        mixture = noise(2, 2, SAMPLES)
        signature = graph(("magnitude",), ("mask",))
        gains = np.array([0.2, 0.5, 0.3], np.float32)
        shape = (2, 3, 2, SMALL.bins, SMALL.frames(SAMPLES))
        mask = np.broadcast_to(gains[:, None, None, None], shape)
        built = model_inputs(signature, mixture)
        result = stems_from_outputs(signature, {"out_mask": mask}, built.spectrum, SAMPLES)
        assert relative_error(result, mixture[:, None] * gains[:, None, None]) < 1e-5

    @pytest.mark.parametrize("name", FAMILIES)
    def test_mask_of_any_family(self, name: str) -> None:
        transform = FAMILIES[name]
        mixture = noise(1, 2, 12_000)
        signature = graph(("magnitude",), ("mask",), transform)
        built = model_inputs(signature, mixture)
        mask = np.random.default_rng(5).random((1, 2, *built.arrays["in_magnitude"].shape[1:]), np.float32)
        result = stems_from_outputs(signature, {"out_mask": mask}, built.spectrum, 12_000)
        expected = transform.inverse(transform.forward(mixture)[:, None] * mask, 12_000)
        np.testing.assert_array_equal(result, expected)

    @settings(deadline=None, max_examples=25)
    @given(
        roles=st.lists(
            st.sampled_from(["waveform", "cac", "spectra", "complex_mask"]),
            min_size=1,
            max_size=4,
            unique=True,
        ),
        batch=st.integers(1, 2),
        stems=st.integers(1, 3),
        channels=st.integers(1, 2),
        samples=st.integers(300, 1500),
    )
    def test_outputs_are_summed(
        self, roles: list[str], batch: int, stems: int, channels: int, samples: int
    ) -> None:
        parts = [noise(batch, stems, channels, samples, seed=seed) for seed in range(len(roles))]
        mixture = noise(batch, channels, samples, seed=9)
        signature = graph(("waveform",), tuple(roles))
        outputs = {
            f"out_{role}": as_role(role, part, mixture, SMALL)
            for role, part in zip(roles, parts, strict=True)
        }
        spectrum = model_inputs(signature, mixture).spectrum
        result = stems_from_outputs(signature, outputs, spectrum, samples)
        assert relative_error(result, np.sum(parts, axis=0)) < 1e-4

    def test_waveforms_keep_the_graphs_own_length(self) -> None:
        wave = noise(1, 2, 1, 77)
        result = stems_from_outputs(
            graph(("waveform",), ("waveform",), None), {"out_waveform": wave}, None, 100
        )
        assert result is wave

    def test_outputs_are_left_alone(self) -> None:
        signature = graph(("waveform",), ("waveform", "spectra"))
        stems = noise(1, 1, 1, SAMPLES)
        outputs = {
            f"out_{role}": as_role(role, stems, stems[:, 0], SMALL) for role in ("waveform", "spectra")
        }
        before = {name: array.copy() for name, array in outputs.items()}
        stems_from_outputs(signature, outputs, None, SAMPLES)
        for name, array in outputs.items():
            np.testing.assert_array_equal(array, before[name])


class TestRefusals:
    frames = SMALL.frames(SAMPLES)

    @pytest.mark.parametrize(
        ("role", "shape"),
        [
            ("cac", (1, 2, 2, 129, 5)),
            ("cac", (1, 2, 3, 129, 32)),
            ("spectra", (1, 2, 1, 129, 32)),
            ("mask", (1, 2, 1, 128, 32)),
        ],
    )
    def test_shapes_that_are_not_the_roles(self, role: str, shape: tuple[int, ...]) -> None:
        outputs: dict[str, Any] = {f"out_{role}": np.zeros(shape, np.float32)}
        with pytest.raises(ModelFileError, match=f"output out_{role} has shape"):
            stems_from_outputs(graph(("waveform",), (role,)), outputs, None, SAMPLES)

    @pytest.mark.parametrize("shape", [(1, 3, 1, SAMPLES), (1, 2, 1, SAMPLES - 1)])
    def test_outputs_that_disagree(self, shape: tuple[int, ...]) -> None:
        outputs = {
            "out_waveform": np.zeros(shape, np.float32),
            "out_spectra": np.zeros((1, 2, 1, 129, self.frames, 2), np.float32),
        }
        with pytest.raises(ModelFileError, match="disagree"):
            stems_from_outputs(graph(("waveform",), ("waveform", "spectra")), outputs, None, SAMPLES)

    def test_mask_without_the_spectrum(self) -> None:
        outputs = {"out_mask": np.zeros((1, 1, 1, 129, self.frames), np.float32)}
        with pytest.raises(ValueError, match="spectrum is needed"):
            stems_from_outputs(graph(("magnitude",), ("mask",)), outputs, None, SAMPLES)
