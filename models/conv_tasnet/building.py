"""From a Conv-TasNet checkpoint to a model folder."""

from pathlib import Path

from stemwright.models.checkpoints import Checkpoint
from stemwright.models.conv_tasnet.graph import INPUT, OUTPUT, build_graph, state_tensors
from stemwright.models.conv_tasnet.naming import renamed_tensors
from stemwright.models.conv_tasnet.origins import Variant, variant_of
from stemwright.models.conv_tasnet.plan import plan_of
from stemwright.models.graphs.weightless import Storage
from stemwright.models.manifest import (
    UNKNOWN_LICENCE,
    AudioFormat,
    Graph,
    GraphInput,
    GraphOutput,
    Licence,
    Manifest,
    ScaleFit,
    Streaming,
    TrackNormalisation,
    WeightsOrigin,
)
from stemwright.models.registry.model_folder import manifest_of, origin_of, write_model_folder

_CITATION = (
    "Luo & Mesgarani, Conv-TasNet: Surpassing Ideal Time-Frequency Magnitude Masking for Speech "
    "Separation, IEEE/ACM TASLP 27(8), 2019"
)


def build_model_folder(
    checkpoint: Checkpoint,
    *,
    name: str,
    folder: Path,
    storage: Storage = "float16",
    licence: Licence = UNKNOWN_LICENCE,
    origin: WeightsOrigin | None = None,
) -> Manifest:
    """Write `model.onnx` and `manifest.json` for a checkpoint; see registry.family.BuildFolder.

    Raises
    ------
    ModelFileError
        The checkpoint leaves open which variant it is, there is no graph for it, or a tensor does not fit.
    OutputError
        The folder cannot be written.
    """
    variant = variant_of(checkpoint)
    tensors = renamed_tensors(variant, checkpoint.tensors)
    model = build_graph(variant.config, tensors, storage)
    origin = origin_of(checkpoint, origin)
    manifest = manifest_of_variant(variant, name=name, licence=licence, origin=origin)
    return write_model_folder(folder, model, manifest)


def manifest_of_variant(
    variant: Variant,
    *,
    name: str,
    licence: Licence = UNKNOWN_LICENCE,
    origin: WeightsOrigin | None = None,
) -> Manifest:
    """Return the manifest of a variant; raises ModelFileError if a name cannot be used."""
    config = variant.config
    speakers = variant.stems is None
    latency = Streaming(latency_samples=config.hop) if config.streamable else None
    return manifest_of(
        name=name,
        family="conv_tasnet",
        task="speech" if speakers else "music",
        description=describe(variant),
        licence=licence,
        citation=_CITATION,
        stems=_speakers(config.sources) if variant.stems is None else variant.stems,
        stem_kind="interchangeable" if speakers and config.sources > 1 else "fixed",
        audio=AudioFormat(
            sample_rate=config.sample_rate,
            channels=config.audio_channels,
            mode="downmix" if config.audio_channels == 1 else "native",
        ),
        plan=plan_of(config, speakers=speakers),
        graph=Graph(
            inputs=(GraphInput(name=INPUT, role="waveform"),),
            outputs=(GraphOutput(name=OUTPUT, role="waveform"),),
            batch="one" if config.streamable else "dynamic",
            state=state_tensors(config),
        ),
        # SI-SNR, by which networks for speakers are trained, leaves the scale open.
        scale_fit=ScaleFit() if speakers and not config.streamable else None,
        normalisation=None if speakers else TrackNormalisation(),
        streaming=latency,
        origin=origin or WeightsOrigin(),
    )


def describe(variant: Variant) -> str:
    """Describe a variant in one line."""
    config = variant.config
    what = f"{config.sources} speakers" if variant.stems is None else ", ".join(variant.stems)
    how = "causal, streamable" if config.streamable else "causal" if config.causal else "non-causal"
    return (
        f"Conv-TasNet: {what}, {config.sample_rate:g} Hz, filters of {config.filter_length} samples, {how}, "
        f"{config.norm} norms, {config.mask} masks"
    )


def architecture_of(checkpoint: Checkpoint) -> str:
    """Describe the network of a checkpoint in one line; raises ModelFileError as variant_of does."""
    return describe(variant_of(checkpoint))


def _speakers(count: int) -> tuple[str, ...]:
    return ("speech",) if count == 1 else tuple(f"speaker{index + 1}" for index in range(count))
