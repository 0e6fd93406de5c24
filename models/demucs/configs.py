"""Configurations of the Demucs networks: what tells one released network from another."""

from dataclasses import dataclass

SAMPLE_RATE = 44_100
HOP = 1024
BINS = 2048
MUSIC_STEMS = ("drums", "bass", "other", "vocals")


@dataclass(frozen=True, kw_only=True)
class HTDemucsConfig:
    """HTDemucs (v4).

    sources
        Stems in the order of the network's outputs.
    channels, depth
        Channels of the first layer, doubled in each of `depth` layers.
    bottom_channels
        Channels of the transformer, 0 for those of the innermost layer (no adapters around it).
    transformer_layers, heads, hidden_scale
        Transformer: layers, attention heads, width of the feed-forward part over that of a token.
    compression
        Compression of the residual branches.
    decoder_branch
        Whether the decoder has residual branches too (the released networks' does).
    """

    sources: tuple[str, ...] = MUSIC_STEMS
    channels: int = 48
    depth: int = 4
    bottom_channels: int = 512
    transformer_layers: int = 5
    heads: int = 8
    hidden_scale: int = 4
    compression: int = 8
    decoder_branch: bool = True


@dataclass(frozen=True, kw_only=True)
class HDemucsConfig:
    """HDemucs (v3 hybrid): fields as in HTDemucsConfig; the depth of 6 follows from the transform.

    early_inverse
        Whether the network was trained with the older transform (`hybrid_old` of the reference).
    """

    sources: tuple[str, ...] = MUSIC_STEMS
    channels: int = 48
    compression: int = 4
    decoder_branch: bool = False
    early_inverse: bool = False


@dataclass(frozen=True, kw_only=True)
class PaperDemucsConfig:
    """Demucs v1 and v2, the network of "Music Source Separation in the Waveform Domain".

    sources
        Stems in the order of the network's outputs.
    channels
        Channels of the first layer, doubled in each of the six: 64 or 48 (v2), 100 (v1).
    resample
        Whether the network works at twice the sample rate (v2).
    """

    sources: tuple[str, ...] = MUSIC_STEMS
    channels: int = 64
    resample: bool = True


@dataclass(frozen=True, kw_only=True)
class TimeDemucsConfig:
    """Demucs v3 in the time domain.

    sources, channels, resample
        As in PaperDemucsConfig.
    compression, decoder_branch
        As in HTDemucsConfig.
    normalise
        Whether the network takes mean and deviation of the mono signal out of its input.
    """

    sources: tuple[str, ...] = MUSIC_STEMS
    channels: int = 64
    compression: int = 4
    decoder_branch: bool = False
    normalise: bool = True
    resample: bool = True


HybridConfig = HTDemucsConfig | HDemucsConfig
WaveformConfig = PaperDemucsConfig | TimeDemucsConfig
NetworkConfig = HybridConfig | WaveformConfig
