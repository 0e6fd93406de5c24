"""The transforms of the known families, and signals to try them on."""

import numpy as np
from numpy.typing import NDArray

from stemwright.core.transforms import Transform

HTDEMUCS = Transform(
    n_fft=4096,
    hop=1024,
    spectrum_scale="unitary",
    outer_padding="hop_aligned",
    dropped_edge_frames=2,
    kept_bins=2048,
)
HDEMUCS_EARLY = HTDEMUCS.model_copy(update={"outer_padding": "hop_aligned_early"})
USS = Transform(n_fft=2048, hop=320)
ROFORMER = Transform(n_fft=2048, hop=441, zeroed_synthesis_bins=1)
SCNET = Transform(
    n_fft=4096, hop=1024, window="rectangular", spectrum_scale="unitary", outer_padding="even_frames"
)
MDX = Transform(n_fft=6144, hop=1024, kept_bins=3072, zeroed_analysis_bins=3)
IBM_CNN = Transform(
    n_fft=4096,
    hop=256,
    window_length=1024,
    window_scale="unit_sum",
    padding="zero",
    frame_count="ceil",
    synthesis="central_cut",
    normalisation="steady_state",
)
FAMILIES = {
    "htdemucs": HTDEMUCS,
    "hdemucs_early": HDEMUCS_EARLY,
    "uss": USS,
    "roformer": ROFORMER,
    "scnet": SCNET,
    "mdx": MDX,
    "ibm_cnn": IBM_CNN,
}


def noise(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """White noise of standard deviation 0.1."""
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def relative_error(value: NDArray[np.generic], truth: NDArray[np.generic]) -> float:
    """Largest deviation as a share of the truth's largest magnitude."""
    return float(np.abs(value - truth).max() / np.abs(truth).max())  # type: ignore[operator]
