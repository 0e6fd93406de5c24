import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemwright.core.audio.channels import ChannelMode, channel_groups

NAMES = ["FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR", "BC", "TFL", "TFR", "CH1", "CH2"]
LAYOUTS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=13, unique=True).map(tuple)
MODES = st.sampled_from(["native", "downmix", "per_channel"])


@given(layout=LAYOUTS, model=st.integers(1, 6), mode=MODES)
def test_every_channel_is_in_exactly_one_group(
    layout: tuple[str, ...], model: int, mode: ChannelMode
) -> None:
    groups = channel_groups(layout, model, mode)
    assert sorted(index for group in groups for index in group.channels) == list(range(len(layout)))


@given(layout=LAYOUTS, model=st.integers(1, 6), mode=MODES, frames=st.integers(0, 50))
def test_shapes_and_lengths(layout: tuple[str, ...], model: int, mode: ChannelMode, frames: int) -> None:
    block = np.ones((len(layout), frames), np.float32)
    for group in channel_groups(layout, model, mode):
        fed = group.to_model(block)
        assert fed.shape == (model, frames)
        assert fed.dtype == np.float32
        stems = group.from_model(np.stack([fed, 2 * fed]))
        assert stems.shape == (2, len(group.channels), frames)
        assert stems.dtype == np.float32


@given(layout=LAYOUTS, model=st.integers(1, 6), mode=st.sampled_from(["native", "per_channel"]))
def test_identity_model_gives_the_recording_back(
    layout: tuple[str, ...], model: int, mode: ChannelMode
) -> None:
    block = np.random.default_rng(1).standard_normal((len(layout), 20)).astype(np.float32)
    out = np.zeros_like(block)
    for group in channel_groups(layout, model, mode):
        out[list(group.channels)] = group.from_model(group.to_model(block)[None])[0]
    np.testing.assert_allclose(out, block, rtol=1e-6)


def test_stereo_passes_as_it_is() -> None:
    (group,) = channel_groups(("FL", "FR"), 2)
    block = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(group.to_model(block), block)


def test_mono_goes_to_both_channels_and_is_averaged_back() -> None:
    (group,) = channel_groups(("FC",), 2)
    block = np.arange(3, dtype=np.float32)[None]
    np.testing.assert_array_equal(group.to_model(block), np.repeat(block, 2, axis=0))
    stems = np.array([[[1, 2, 3], [3, 4, 5]]], np.float32)
    np.testing.assert_array_equal(group.from_model(stems), [[[2, 3, 4]]])


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (("FL", "FR", "FC", "LFE", "BL", "BR"), [(0, 1), (2,), (3,), (4, 5)]),
        (("FL", "FC", "FR", "SL", "SR", "LFE"), [(0, 2), (1,), (3, 4), (5,)]),
        (("FR", "FL", "BC"), [(1, 0), (2,)]),
        (("CH1", "CH2", "CH3"), [(0,), (1,), (2,)]),
        (("FL", "FR", "BL"), [(0, 1), (2,)]),
    ],
)
def test_surround_is_paired_by_name(layout: tuple[str, ...], expected: list[tuple[int, ...]]) -> None:
    assert [group.channels for group in channel_groups(layout, 2)] == expected


def test_downmix_hears_the_mean_and_gives_it_to_every_channel() -> None:
    (group,) = channel_groups(("FL", "FR"), 1, "downmix")
    block = np.array([[1, 2], [3, 6]], np.float32)
    np.testing.assert_array_equal(group.to_model(block), [[2, 4]])
    np.testing.assert_array_equal(group.from_model(np.array([[[5, 7]]], np.float32)), [[[5, 7], [5, 7]]])


def test_a_model_of_many_channels_takes_its_own_number_together() -> None:
    assert channel_groups(tuple(NAMES[:6]), 6)[0].channels == (0, 1, 2, 3, 4, 5)
    assert len(channel_groups(tuple(NAMES[:4]), 6)) == 4


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        channel_groups((), 2)
