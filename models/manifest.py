"""Manifests: everything that the engine has to know of a model, as validated data.

A model is a folder `NAME/` with `manifest.json` and `model.onnx`; a bag is a folder with a
`manifest.json` that names its members. docs/model-format.md describes the format for readers
without this code.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from stemwright.core.audio.sinc_resample import PAPER_SINC, KaiserSinc
from stemwright.core.errors import ModelFileError
from stemwright.core.features import FeatureBands
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


UNKNOWN_LICENCE = Licence(
    name="unknown",
    text="The file says nothing about its terms; ask whoever gave it to you.",
)


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


StorageKind = Literal["float32", "float16", "int8"]


class StorageRecord(_Data):
    """How the weights are stored, where that changes them, and what was measured to be lost by it.

    kind
        `float32`, `float16`, or `int8` with a scale for each output channel; computed with as float32.
    sdr_change_db
        Change of the SDR of the stem that loses most, of all songs that were measured; None: not measured.
    measured_on
        What it was measured on.
    """

    kind: StorageKind
    sdr_change_db: float | None = None
    measured_on: str = ""


class TrainingRecord(_Data):
    """How a model of one's own was trained.

    commit
        Of stemwright's code.
    config
        The configuration of the run, as JSON.
    steps, seconds
        Updates until the weights that were published, and time of the whole run.
    validation
        Scores of the weights on held-out items.
    scores_command
        The command that gives the scores of the model's card.
    experimental
        The model does less than is expected of its kind.
    """

    commit: str = ""
    config: str = ""
    steps: int = Field(default=0, ge=0)
    seconds: float = Field(default=0.0, ge=0)
    validation: dict[str, float] = {}
    scores_command: str = ""
    experimental: bool = False


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
    time
        `fixed`: every call takes exactly `input_samples`; `variable`: a call may be shorter, in
        whole multiples of `multiple` samples, and a recording shorter than a window runs in one
        such call (networks that look at their whole input, as Conv-TasNet's norms do).
    multiple
        Lengths of variable calls are whole multiples of this.
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
    time: Literal["fixed", "variable"] = "fixed"
    multiple: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _output_inside_input(self) -> "ChunkPlan":
        if self.output_offset + self.output_samples > self.input_samples:
            raise ValueError("the output window must lie inside the input window")
        if self.time == "variable" and self.output_samples != self.input_samples:
            raise ValueError("calls of variable length give as many samples as they take")
        if self.input_samples % self.multiple:
            raise ValueError("input_samples must be a whole multiple of `multiple`")
        return self


class GraphInput(_Data):
    """An input of the graph: its name and what it is.

    Shapes: `waveform` [B, C, T]; `cac` (complex as channels: re, im of each channel in turn)
    [B, 2C, F, N]; `complex` [B, C, F, N, 2]; `magnitude` [B, C, F, N]; `condition` [B, D], what a
    query asks for.
    """

    name: str
    role: Literal["waveform", "magnitude", "complex", "cac", "condition"]


class GraphOutput(_Data):
    """An output of the graph.

    Shapes: `waveform` [B, S, C, T]; `cac` [B, S, 2C, F, N]; `spectra` and `complex_mask`
    [B, S, C, F, N, 2]; `mask` [B, S, C, F, N]. Masks multiply the mixture's spectrum. Several
    outputs are summed as waveforms.
    """

    name: str
    role: Literal["waveform", "mask", "complex_mask", "spectra", "cac"]


class StateTensor(_Data):
    """A tensor that one call hands to the next: the names of its input and output, batch of one.

    The first call gets `initial` everywhere.
    """

    input: str
    output: str
    shape: tuple[Annotated[int, Field(ge=1)], ...]
    dtype: Literal["float32", "float64"] = "float32"
    initial: float = 0.0


class Graph(_Data):
    """Signature of `model.onnx` and the transform around it.

    outside_frames
        Frames of a window that are centred outside the recording: `computed` like all others, or
        `zero`, in the network's input and in the spectrum that masks multiply (IBM-CNN fills
        frames before the first and after the last).
    gate
        Values of masks below this are set to zero (IBM-CNN's theta); the others stay as they are.
    state
        What one call hands to the next. A model with a state runs over a recording call by call,
        in order and without overlap, and can be streamed.
    """

    inputs: tuple[GraphInput, ...] = Field(min_length=1)
    outputs: tuple[GraphOutput, ...] = Field(min_length=1)
    transform: Transform | None = None
    batch: Literal["dynamic", "one"] = "dynamic"
    outside_frames: Literal["computed", "zero"] = "computed"
    gate: Annotated[float, Field(ge=0, lt=1)] | None = None
    state: tuple[StateTensor, ...] = ()

    @model_validator(mode="after")
    def _transform_present(self) -> "Graph":
        roles = {port.role for port in self.inputs} | {port.role for port in self.outputs}
        if roles - {"waveform", "condition"} and self.transform is None:
            raise ValueError("a graph with spectral inputs or outputs needs a transform")
        if roles == {"condition"}:
            raise ValueError("a graph needs an input that is sound")
        return self

    @model_validator(mode="after")
    def _state_fits(self) -> "Graph":
        if self.state and (self.batch != "one" or self.transform is not None):
            raise ValueError("a graph with a state takes waveforms, in a batch of one")
        names = [*self.input_names, *self.output_names]
        if len(set(names)) != len(names):
            raise ValueError("two inputs or outputs of the graph have the same name")
        return self

    @model_validator(mode="after")
    def _spectra_fit(self) -> "Graph":
        if self.gate is not None and all(port.role != "mask" for port in self.outputs):
            raise ValueError("a gate needs an output that is a mask")
        if self.outside_frames == "zero":
            transform = self.transform
            if transform is None or transform.padding == "none" or transform.outer_padding != "none":
                raise ValueError("frames outside the recording need a transform of centred frames")
        return self

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of all inputs of the graph, those of its state too."""
        return (*(port.name for port in self.inputs), *(tensor.input for tensor in self.state))

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of all outputs of the graph, those of its state too."""
        return (*(port.name for port in self.outputs), *(tensor.output for tensor in self.state))

    @property
    def conditional(self) -> bool:
        """Whether the graph is told by a condition what to look for."""
        return any(port.role == "condition" for port in self.inputs)


class Streaming(_Data):
    """How a model with a state is streamed (samples at the model's rate).

    latency_samples
        How far the outputs lag: sample t of the stems is sample t + latency_samples of the outputs of all
        calls, joined.
    """

    latency_samples: int = Field(ge=0)


class ScaleFit(_Data):
    """One factor for each stem, fitted over the whole recording.

    `mixture`: the factors with which the stems' sum is nearest to the mixture in the least-squares
    sense, for networks whose training leaves the scale open (SI-SNR).
    """

    kind: Literal["mixture"] = "mixture"


class QueryRules(_Data):
    """How a query becomes a condition.

    condition
        `class_probabilities`: a tagger's probabilities of the segment that is separated, zero outside
        the classes asked for, or those of an example; `embedding`: the tagger's embedding of an example.
    size
        Length D of the condition.
    tagger
        Name of the model that makes conditions; its class list gives the meaning of each entry.
    threshold
        A segment in which no class asked for is as probable as this is silent in the stem.
    """

    condition: Literal["class_probabilities", "embedding"]
    size: int = Field(ge=1, le=65_536)
    tagger: ModelName
    threshold: float = Field(default=0.2, ge=0, le=1)


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
    stems: tuple[StemName, ...] = ()
    audio: AudioFormat

    @model_validator(mode="after")
    def _stems_differ(self) -> "_Identity":
        if len(set(self.stems)) != len(self.stems):
            raise ValueError("two stems have the same name")
        return self


class Manifest(_Identity):
    """Manifest of a single model.

    stem_kind
        `fixed`: each output has its stem; `interchangeable`: the outputs are equals (speakers) and
        are kept in one order across chunks; `query`: a stem for each query, `stems` is empty.
    remainder
        The stem that is, unless asked otherwise, the recording minus all others. The graph may
        leave it out (its outputs then have one stem fewer) if it is the last.
    streaming
        Present exactly if the graph has a state.
    """

    kind: Literal["model"] = "model"
    stem_kind: Literal["fixed", "interchangeable", "query"] = "fixed"
    remainder: StemName | None = None
    plan: ChunkPlan
    graph: Graph
    normalisation: TrackNormalisation | None = None
    scale_fit: ScaleFit | None = None
    streaming: Streaming | None = None
    query: QueryRules | None = None
    origin: WeightsOrigin = WeightsOrigin()
    parity: ParityRecord | None = None
    safe_precisions: tuple[PrecisionRecord, ...] = ()
    storage: StorageRecord | None = None
    training: TrainingRecord | None = None
    files: tuple[FileRecord, ...] = ()

    @model_validator(mode="after")
    def _stems_fit(self) -> "Manifest":
        asked = self.stem_kind == "query"
        if asked != (self.query is not None) or asked != self.graph.conditional:
            raise ValueError("stems by query need query rules and a graph with a condition, and no others do")
        if asked == bool(self.stems):
            raise ValueError("a model has stems, or takes queries")
        if self.remainder is not None and self.stems[-1:] != (self.remainder,):
            raise ValueError("the remainder is the last stem")
        if self.remainder is not None and len(self.stems) < 2:
            raise ValueError("a remainder needs another stem")
        if self.stem_kind == "interchangeable" and len(self.stems) < 2:
            raise ValueError("one stem alone has nothing to be exchanged with")
        if self.remainder is not None and self.stem_kind == "interchangeable":
            raise ValueError("interchangeable stems have no remainder among them")
        if self.scale_fit is not None and (asked or self.remainder is not None):
            raise ValueError("the scale is fitted for stems that are all the network's own")
        return self

    @model_validator(mode="after")
    def _plan_fits(self) -> "Manifest":
        if bool(self.graph.state) != (self.streaming is not None):
            raise ValueError("a model with a state says how it is streamed, and no other does")
        plan = self.plan
        if self.graph.state and (
            plan.overlap or plan.window != "rectangular" or plan.output_samples != plan.input_samples
        ):
            raise ValueError("calls with a state follow on each other: rectangular, without overlap")
        if self.stem_kind == "interchangeable" and not self.graph.state and not plan.overlap:
            raise ValueError("interchangeable stems need an overlap to be kept in order")
        return self

    @property
    def output_stems(self) -> int:
        """Stems on the S axis of the graph's outputs: 1 for a query, all with the remainder otherwise."""
        return 1 if self.stem_kind == "query" else len(self.stems)


class Tagger(_Identity):
    """Manifest of a tagger: a graph from features [B, N, bands] to class probabilities and an embedding.

    transform, bands
        What features are made of: `bands` of the spectrum of the mean of all channels. A transform
        without padding puts its first window onto the first sample.
    patch_frames, patch_hop
        Frames of one call and the distance of consecutive calls, in frames; `patch_frames` 0 means
        that a call takes any number of frames.
    min_frames
        Fewest frames of a call that takes any number. Zeros behind a sound fill up what is missing to
        this, and to whole patches.
    features
        Name of the graph's input.
    probabilities, embedding
        Names of its outputs, [B, K] and [B, E]; for a segment of several patches their means count.
    classes
        AudioSet's ids of the K classes, in order.
    """

    kind: Literal["tagger"] = "tagger"
    transform: Transform
    bands: FeatureBands
    patch_frames: int = Field(ge=0)
    patch_hop: int = Field(ge=1)
    min_frames: int = Field(default=1, ge=1)
    features: str = "features"
    probabilities: str = "probabilities"
    embedding: str = "embedding"
    embedding_size: int = Field(ge=1)
    classes: tuple[str, ...] = Field(min_length=1)
    origin: WeightsOrigin = WeightsOrigin()
    files: tuple[FileRecord, ...] = ()


class EmbedderWindows(_Data):
    """How a sound is cut into calls of an embedder's graph (samples at its rate).

    samples
        Length of a window; None: the whole sound is one.
    hop
        Distance of windows; None: their length.
    tail
        What becomes of a window that passes the end of the sound: `zeros` are put behind it, it stays
        `short`, or it is `dropped`.
    multiple, rest
        A window that is not of full length is cut to k `multiple` + `rest` samples, k at least 1; one that is
        too short for that is dropped.
    """

    samples: Annotated[int, Field(ge=1)] | None = None
    hop: Annotated[int, Field(ge=1)] | None = None
    tail: Literal["zeros", "short", "dropped"] = "short"
    multiple: int = Field(default=1, ge=1)
    rest: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _windows_fit(self) -> "EmbedderWindows":
        if self.samples is None and (self.hop is not None or self.tail != "short"):
            raise ValueError("a sound that is one window has no hop and no tail")
        return self


class Preparation(_Data):
    """What is done to a sound before an embedder's graph, in this order: each step shifts the numbers.

    resampling
        The mean of all channels goes to the embedder's rate by this filter.
    pcm16
        The samples pass through 16 bits: `down` clips and cuts off as libsndfile writes them, `nearest`
        clips and rounds; `none` leaves them as they are.
    second_pcm16
        `toward_zero_by_32767`: after that they are clipped to -1..1, multiplied by 32767, cut off and
        divided again (LAION-CLAP).
    max_samples
        What lies behind so many samples is cut off; None: nothing.
    min_samples
        Zeros behind the sound fill it up to so many samples.
    normalise
        `zero_mean_unit_variance`: the whole sound minus its mean, divided by the root of its variance plus
        1e-7, as transformers' Wav2Vec2FeatureExtractor does.
    scale
        What the samples are multiplied with at last.
    """

    resampling: KaiserSinc = PAPER_SINC
    pcm16: Literal["down", "nearest", "none"] = "down"
    second_pcm16: Literal["none", "toward_zero_by_32767"] = "none"
    max_samples: Annotated[int, Field(ge=1)] | None = None
    min_samples: int = Field(default=1, ge=1)
    normalise: Literal["none", "zero_mean_unit_variance"] = "none"
    scale: float = Field(default=1.0, gt=0)


class Embedder(_Identity):
    """Manifest of an embedder: a graph from sound [B, T], or features of it, to embeddings [B, N, E].

    preparation, windows
        What is done to a sound, and how it is cut into calls.
    transform, bands
        The graph takes features [B, N, bands] of each window, or with a transform alone its spectrum
        [B, F, N, 2]; None: it takes the window's samples.
    input, output
        Names of the graph's input and output.
    embedding_size
        E.
    precision
        What an embedding is rounded to.
    statistics_name
        What the embedder is called in files of published statistics; empty: nothing is published.
    origin, parity
        As of a model.
    """

    kind: Literal["embedder"] = "embedder"
    preparation: Preparation = Preparation()
    windows: EmbedderWindows = EmbedderWindows()
    transform: Transform | None = None
    bands: FeatureBands | None = None
    input: str = "input"
    output: str = "embedding"
    embedding_size: int = Field(ge=1)
    precision: Literal["float16", "float32"] = "float16"
    statistics_name: str = ""
    origin: WeightsOrigin = WeightsOrigin()
    parity: ParityRecord | None = None
    files: tuple[FileRecord, ...] = ()

    @model_validator(mode="after")
    def _features_fit(self) -> "Embedder":
        if self.bands is not None and self.transform is None:
            raise ValueError("bands need a transform")
        if self.audio.mode != "downmix" or self.audio.channels != 1:
            raise ValueError("an embedder hears the mean of all channels")
        return self


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
        if not self.stems:
            raise ValueError("a bag has stems")
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


Single = Manifest | Tagger | Embedder
"""Manifests of what has a graph of its own."""
AnyManifest = Manifest | Bag | Tagger | Embedder
_ADAPTER: TypeAdapter[AnyManifest] = TypeAdapter(Annotated[AnyManifest, Field(discriminator="kind")])


def parse_manifest(text: str | bytes, *, where: str) -> AnyManifest:
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


def read_manifest(folder: Path) -> AnyManifest:
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
