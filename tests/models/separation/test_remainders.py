"""Remainders by subtraction and by the network, gates of masks, and frames outside the recording."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import OptionError
from stemwright.core.transforms import Transform
from stemwright.models.manifest import AudioFormat, ChunkPlan, Graph, GraphInput, GraphOutput, Manifest
from stemwright.models.separation.separator import SeparationOptions, Separator
from tests.support.fake_sessions import (
    FakeSession,
    context_kernels,
    context_network,
    fake_manifest,
    fake_member,
    gains_network,
    join_by_hand,
    noise,
    separate_array,
)

pytestmark = pytest.mark.timeout(60)
STEMS = ("vocals", "drums", "rest")


def with_remainder(**changes: object) -> Manifest:
    return Manifest.model_validate(
        {**fake_manifest(stems=STEMS).model_dump(), "remainder": "rest", **changes}
    )


def separator_of(outputs: int = 3, **changes: object) -> Separator:
    session = FakeSession(network=context_network(context_kernels(3)[:outputs]))
    manifest = with_remainder(**changes)
    return Separator([fake_member(session, manifest)], manifest.stems)


@settings(max_examples=20, deadline=None)
@given(
    frames=st.integers(1, 1500),
    channels=st.integers(1, 3),
    rate=st.sampled_from([1000, 1600, 700]),
    outputs=st.sampled_from([2, 3]),
    mode=st.sampled_from(["native", "downmix"]),
    shifts=st.integers(0, 2),
    block=st.integers(1, 900),
)
def test_stems_add_up_to_the_recording_at_its_own_rate(
    frames: int, channels: int, rate: int, outputs: int, mode: str, shifts: int, block: int
) -> None:
    samples = noise(channels, frames)
    audio = {"sample_rate": 1000, "channels": 1 if mode == "downmix" else 2, "mode": mode}
    with separator_of(outputs, audio=audio) as separator:
        options = SeparationOptions(shifts=shifts, block_frames=block)
        stems = separate_array(separator, samples, rate, options)
    assert tuple(stems) == STEMS
    np.testing.assert_allclose(np.sum(list(stems.values()), axis=0, dtype=np.float64), samples, atol=3e-6)


@pytest.mark.parametrize("stems", [("rest",), ("rest", "vocals"), ("drums", "rest"), ("vocals",)])
def test_chosen_stems_are_those_of_the_whole(stems: tuple[str, ...]) -> None:
    samples = noise(2, 900)
    with separator_of() as separator:
        whole = separate_array(separator, samples, 1600)
        chosen = separate_array(separator, samples, 1600, SeparationOptions(stems=stems))
    assert tuple(chosen) == stems
    for stem in stems:
        np.testing.assert_array_equal(chosen[stem], whole[stem])


def test_a_residual_beside_all_stems_is_nothing() -> None:
    with separator_of() as separator:
        stems = separate_array(separator, noise(2, 900), options=SeparationOptions(residual=True))
        alone = separate_array(
            separator, noise(2, 900), options=SeparationOptions(stems=("vocals",), residual=True)
        )
        complement = separate_array(separator, noise(2, 900), options=SeparationOptions(complement_of="rest"))
    np.testing.assert_allclose(stems["residual"], 0, atol=1e-6)
    np.testing.assert_allclose(alone["residual"], stems["drums"] + stems["rest"], atol=1e-6)
    np.testing.assert_allclose(complement["no_rest"], stems["vocals"] + stems["drums"], atol=1e-6)


def test_the_networks_own_remainder_is_what_it_gives() -> None:
    samples = noise(2, 900)
    session = FakeSession(network=context_network(context_kernels(3)))
    with Separator([fake_member(session, fake_manifest(stems=STEMS))], STEMS) as separator:
        plain = separate_array(separator, samples)
    with separator_of() as separator:
        own = separate_array(separator, samples, options=SeparationOptions(remainder="network"))
        taken = separate_array(separator, samples)
    for stem in STEMS:
        np.testing.assert_array_equal(own[stem], plain[stem])
    assert np.abs(own["rest"] - taken["rest"]).max() > 0.1


def test_a_network_that_leaves_the_remainder_out_cannot_be_asked_for_it() -> None:
    with separator_of(outputs=2) as separator:
        with pytest.raises(OptionError, match="gives no rest"):
            separate_array(separator, noise(2, 300), options=SeparationOptions(remainder="network"))
        options = SeparationOptions(remainder="network", stems=("drums",))
        assert tuple(separate_array(separator, noise(2, 300), options=options)) == ("drums",)


@pytest.mark.parametrize("mode", ["network", "subtract"])
def test_models_without_a_remainder_leave_no_choice(mode: str) -> None:
    session = FakeSession(network=gains_network())
    with (
        Separator([fake_member(session)], fake_manifest().stems) as separator,
        pytest.raises(OptionError, match="is a remainder"),
    ):
        separate_array(separator, noise(2, 300), options=SeparationOptions(remainder=mode))  # type: ignore[arg-type]


def test_a_remainder_is_averaged_with_a_stem_of_that_name() -> None:
    samples = noise(2, 900)
    networks = (gains_network((0.5, 0.25, 9.0)), gains_network((0.1, 0.2, 0.6)))
    manifests = (with_remainder(name="a"), fake_manifest(name="b", stems=STEMS))
    members = [
        fake_member(FakeSession(network=network), manifest, dict.fromkeys(STEMS, gain))
        for network, manifest, gain in zip(networks, manifests, (0.25, 0.75), strict=True)
    ]
    with Separator(members, STEMS) as separator:
        stems = separate_array(separator, samples)
    np.testing.assert_allclose(stems["rest"], samples * (0.25 * 0.25 + 0.75 * 0.6), atol=1e-6)
    np.testing.assert_allclose(stems["vocals"], samples * (0.25 * 0.5 + 0.75 * 0.1), atol=1e-6)


# --- masks --------------------------------------------------------------------------------------

TRANSFORM = Transform(n_fft=64, hop=16, padding="zero")
PLAN = ChunkPlan(input_samples=256, output_samples=192, output_offset=32, overlap=0.0, window="rectangular")


class MaskSession(FakeSession):
    """A mask that depends on the magnitudes of the frame before and after."""

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        self.batches.append(len(inputs["magnitude"]))
        return {"mask": mask_of(inputs["magnitude"])}


def mask_of(magnitude: FloatArray) -> FloatArray:
    around = np.pad(magnitude, ((0, 0),) * (magnitude.ndim - 1) + ((1, 1),))
    value = np.abs(np.sin(around[..., :-2] + 2 * magnitude + 3 * around[..., 2:] + 0.3))
    return np.asarray(np.stack([value, 1 - value], axis=-4), np.float32)


def mask_separator(gate: float | None, outside: str, batch: int = 3) -> Separator:
    graph = Graph.model_validate(
        {
            "inputs": (GraphInput(name="magnitude", role="magnitude"),),
            "outputs": (GraphOutput(name="mask", role="mask"),),
            "transform": TRANSFORM,
            "gate": gate,
            "outside_frames": outside,
        }
    )
    manifest = fake_manifest(stems=("vocals", "rest"), plan=PLAN).model_copy(update={"graph": graph})
    session = MaskSession(network=gains_network(), graph=graph, batch_limit=batch)
    return Separator([fake_member(session, manifest)], manifest.stems)


def masked_by_hand(samples: FloatArray, gate: float | None, outside: str) -> FloatArray:
    """Window by window, in the recording's coordinates, shape=(2, channels, n)."""
    frames = samples.shape[-1]
    padded = np.pad(samples, ((0, 0), (256, 512)))
    pieces = []
    for start in range(0, frames, 192):
        length = min(192, frames - start)
        first = start - 32 - (192 - length) // 2  # a short chunk lies in the middle of its window
        spectrum = TRANSFORM.forward(np.ascontiguousarray(padded[:, 256 + first : 512 + first]))
        for frame in range(spectrum.shape[-1]):
            if outside == "zero" and not 0 <= first + 16 * frame < frames:
                spectrum[..., frame] = 0
        mask = mask_of(np.abs(spectrum)[None])[0]
        if gate is not None:
            mask[mask < np.float32(gate)] = 0
        stems = TRANSFORM.inverse(mask * spectrum, 256)
        pieces.append((start, stems[..., start - first : start - first + length]))
    return join_by_hand(pieces, np.ones(192, np.float32), frames)


@pytest.mark.parametrize("outside", ["computed", "zero"])
@pytest.mark.parametrize("gate", [None, 0.6])
@pytest.mark.parametrize("frames", [1, 17, 192, 193, 1000])
def test_masks_are_gated_and_frames_outside_are_zero(frames: int, gate: float | None, outside: str) -> None:
    samples = noise(2, frames)
    with mask_separator(gate, outside) as separator:
        stems = separate_array(separator, samples)
    expected = masked_by_hand(samples, gate, outside)
    np.testing.assert_allclose(np.stack(list(stems.values())), expected, atol=1e-6)


def test_gate_and_outside_frames_are_heard() -> None:
    samples = noise(2, 1000)
    plain = masked_by_hand(samples, None, "computed")
    for gate, outside in ((0.6, "computed"), (None, "zero")):
        assert np.abs(masked_by_hand(samples, gate, outside) - plain).max() > 1e-3


@settings(max_examples=10, deadline=None)
@given(frames=st.integers(1, 1500), batch=st.integers(1, 6), block=st.integers(1, 700))
def test_frames_outside_do_not_depend_on_batches_and_blocks(frames: int, batch: int, block: int) -> None:
    samples = noise(3, frames)
    with mask_separator(0.5, "zero", 1) as separator:
        plain = separate_array(separator, samples)
    with mask_separator(0.5, "zero", batch) as separator:
        other = separate_array(separator, samples, options=SeparationOptions(block_frames=block))
    for stem, values in plain.items():
        np.testing.assert_array_equal(other[stem], values)


def test_audio_of_one_channel_keeps_its_mode() -> None:
    """A model that hears the mean of all channels leaves each channel's own sound in the remainder."""
    samples = noise(2, 600)
    audio = AudioFormat(sample_rate=1000, channels=1, mode="downmix")
    session = FakeSession(network=gains_network((0.5, 0.5)))
    manifest = with_remainder(audio=audio)
    with Separator([fake_member(session, manifest)], STEMS) as separator:
        stems = separate_array(separator, samples)
    np.testing.assert_allclose(stems["rest"], samples - samples.mean(axis=0), atol=1e-6)
