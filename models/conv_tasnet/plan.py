"""How recordings are cut into calls of a Conv-TasNet."""

from stemwright.models.conv_tasnet.configs import ConvTasNetConfig
from stemwright.models.manifest import ChunkPlan

WINDOW_S = 8
"""Length of a call: of the reference's chunks for music; for speech twice the paper's training segments,
so that global norms see what they were trained on. Chosen here for speech."""


def plan_of(config: ConvTasNetConfig, *, speakers: bool) -> ChunkPlan:
    """Return the chunk plan of a network for speakers, or for stems of music."""
    samples = WINDOW_S * config.sample_rate // config.hop * config.hop
    size = {"input_samples": samples, "output_samples": samples}
    if config.streamable:
        return ChunkPlan(
            **size, overlap=0, window="rectangular", tail="end", time="variable", multiple=config.hop
        )
    if speakers:
        # A window around the end: of a few frames alone a global norm makes nothing good.
        return ChunkPlan(
            **size, overlap=0.5, window="hann", tail="centred", time="variable", multiple=config.hop
        )
    return ChunkPlan(  # demucs v2, apply_model(split=True)
        **size, overlap=0.25, window="triangle", tail="end", time="variable", multiple=config.hop
    )
