"""Manifests: everything that the engine has to know of a model, as validated data.

A model is a folder `NAME/` with `manifest.json` and `model.onnx`; a bag is a folder with a
`manifest.json` that names its members. docs/model-format.md describes the format for readers
without this code.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from stemwright.core.errors import ModelFileError
from stemwright.core.transforms import Transform

SCHEMA_VERSION: Literal[1] = 1
MANIFEST_FILE = "manifest.json"
GRAPH_FILE = "model.onnx"

Precision = Literal["float32", "bfloat16", "float16", "int8"]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
StemName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,63}$")]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Licence(_Data):
    """Terms of the weights, shown before they are fetched and in every result."""

    name: str
    text: str
    url: str = ""
    must_accept: bool = False


class WeightsOrigin(_Data):
    """Where the weights came from and how that was verified."""

    source: str = ""
    file_sha256: str = ""
    content_sha256: str = ""
    verified_by: str = ""


class FileRecord(_Data):
    """A file of the model folder."""

    path: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class ParityRecord(_Data):
    """Result of running the stored case against the reference when the model was installed."""

    reference: str
    max_error_db: float


class PrecisionRecord(_Data):
    """A precision below float32 that was measured to be safe on a provider."""

    precision: Precision
    provider: Literal["cpu", "openvino", "cuda", "tensorrt"]
    sdr_loss_db: float


class AudioFormat(_Data):
    """Sample rate (Hz) and channels the graph works at.

    `native`: the graph takes exactly `channels` channels; `downmix`: it takes the mean of all
    channels; `per_channel`: it takes one channel at a time.
    """

    sample_rate: int = Field(ge=1000, le=768_000)
    channels: int = Field(ge=1, le=64)
    mode: Literal["native", "downmix", "per_channel"] = "native"


class ChunkPlan(_Data):
    """How a track is cut into calls of the graph (all lengths in samples at the model's rate).

    input_samples
        Length of one call's input window.
    output_samples, output_offset
        Length of one call's output and where it lies in the input window.
    overlap
        Default share of `output_samples` by which consecutive outputs overlap.
    window
        Cross-fade weight over one output: `triangle` (Demucs' apply_model), `hann`, or
        `rectangular`.
    tail
        What a last, shorter chunk sees: `centred` puts it into the middle of the window with
        real audio around it where there is any (Demucs), `end` pads zeros behind it.
    """

    input_samples: int = Field(ge=1)
    output_samples: int = Field(ge=1)
    output_offset: int = Field(default=0, ge=0)
    overlap: float = Field(default=0.25, ge=0.0, lt=1.0)
    window: Literal["triangle", "hann", "rectangular"] = "triangle"
    tail: Literal["centred", "end"] = "centred"

    @model_validator(mode="after")
    def _output_inside_input(self) -> "ChunkPlan":
        if self.output_offset + self.output_samples > self.input_samples:
            raise ValueError("the output window must lie inside the input window")
        return self


class GraphInput(_Data):
    """An input of the graph: its name and what it is.

    Shapes: `waveform` [B, C, T]; `cac` (complex as channels: re, im of each channel in turn)
    [B, 2C, F, N]; `complex` [B, C, F, N, 2]; `magnitude` [B, C, F, N].
    """

    name: str
    role: Literal["waveform", "magnitude", "complex", "cac"]


class GraphOutput(_Data):
    """An output of the graph.

    Shapes: `waveform` [B, S, C, T]; `cac` [B, S, 2C, F, N]; `spectra` and `complex_mask`
    [B, S, C, F, N, 2]; `mask` [B, S, C, F, N]. Masks multiply the mixture's spectrum. Several
    outputs are summed as waveforms.
    """

    name: str
    role: Literal["waveform", "mask", "complex_mask", "spectra", "cac"]


class Graph(_Data):
    """Signature of `model.onnx` and the transform around it."""

    inputs: tuple[GraphInput, ...] = Field(min_length=1)
    outputs: tuple[GraphOutput, ...] = Field(min_length=1)
    transform: Transform | None = None
    batch: Literal["dynamic", "one"] = "dynamic"

    @model_validator(mode="after")
    def _transform_present(self) -> "Graph":
        roles = {port.role for port in self.inputs} | {port.role for port in self.outputs}
        if roles != {"waveform"} and self.transform is None:
            raise ValueError("a graph with spectral inputs or outputs needs a transform")
        return self


class TrackNormalisation(_Data):
    """Whole-track normalisation around the network.

    `mono_mean_std`: subtract the mean and divide by the unbiased standard deviation (plus
    `epsilon`) of the channel mean of the whole track, undo both on each stem, as
    demucs.api.Separator does.
    """

    kind: Literal["mono_mean_std"] = "mono_mean_std"
    epsilon: float = 1e-8


class _Identity(_Data):
    schema_version: Literal[1] = SCHEMA_VERSION
    name: ModelName
    version: str = "1"
    family: str
    task: Literal["music", "speech", "singing", "universal"] = "music"
    description: str = ""
    licence: Licence
    citation: str = ""
    training_data: str = ""
    stems: tuple[StemName, ...] = Field(min_length=1)
    audio: AudioFormat

    @model_validator(mode="after")
    def _stems_differ(self) -> "_Identity":
        if len(set(self.stems)) != len(self.stems):
            raise ValueError("two stems have the same name")
        return self


class Manifest(_Identity):
    """Manifest of a single model."""

    kind: Literal["model"] = "model"
    plan: ChunkPlan
    graph: Graph
    normalisation: TrackNormalisation | None = None
    origin: WeightsOrigin = WeightsOrigin()
    parity: ParityRecord | None = None
    safe_precisions: tuple[PrecisionRecord, ...] = ()
    files: tuple[FileRecord, ...] = ()


class BagMember(_Data):
    """A member of a bag: a model's name and its weight for each stem of the bag."""

    model: ModelName
    weights: tuple[float, ...]


class Bag(_Identity):
    """Manifest of a bag: stem s is the weighted mean over members, sum_m w[m,s] x[m,s] / sum_m w[m,s]."""

    kind: Literal["bag"] = "bag"
    members: tuple[BagMember, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _weights_fit(self) -> "Bag":
        for member in self.members:
            if len(member.weights) != len(self.stems):
                raise ValueError(
                    f"member {member.model} has {len(member.weights)} weights, not {len(self.stems)}"
                )
            if any(weight < 0 for weight in member.weights):
                raise ValueError(f"member {member.model} has a negative weight")
        for index, stem in enumerate(self.stems):
            if sum(member.weights[index] for member in self.members) <= 0:
                raise ValueError(f"no member has a weight for {stem}")
        return self


AnyManifest = Annotated[Manifest | Bag, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[Manifest | Bag] = TypeAdapter(AnyManifest)


def parse_manifest(text: str | bytes, *, where: str) -> Manifest | Bag:
    """Validate a manifest's JSON text.

    Parameters
    ----------
    text
        JSON.
    where
        Name of the file, for the message.

    Raises
    ------
    ModelFileError
        Not JSON, not a manifest, or a schema version that this release does not know.
    """
    try:
        version = TypeAdapter(_Version).validate_json(text).schema_version
    except ValidationError as error:
        raise ModelFileError(f"{where} is not a model manifest", "import or pull the model again") from error
    if version != SCHEMA_VERSION:
        raise ModelFileError(
            f"{where} has manifest schema {version}; this release reads {SCHEMA_VERSION}",
            "update stemwright" if version > SCHEMA_VERSION else "pull the model again",
        )
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ModelFileError(
            f"{where}: {place or 'manifest'}: {first['msg']}", "import or pull the model again"
        ) from error


def read_manifest(folder: Path) -> Manifest | Bag:
    """Read `manifest.json` of a model folder; raises ModelFileError as parse_manifest does."""
    path = folder / MANIFEST_FILE
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"cannot read {path}: {error.strerror}", "import or pull the model again"
        ) from error
    return parse_manifest(text, where=str(path))


class _Version(BaseModel):
    schema_version: int
