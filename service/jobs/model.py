"""What a job is asked to do, how it stands, and what it tells on its way."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stemwright.core.errors import OptionError
from stemwright.eval.metric_names import check_metric_names

Container = Literal["wav", "flac", "mp3", "ogg", "m4a", "stem.mp4"]
BitDepth = Literal["16", "24", "32f"]
ClipMode = Literal["shared", "clamp", "float"]
Stage = Literal["probe", "separate", "evaluate", "publish"]
"""Stages of a job in their order; each is durable before the next begins."""

Name = Annotated[str, Field(min_length=1, max_length=200)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Metric = Annotated[str, Field(min_length=1, max_length=100)]
StemUploads = Annotated[dict[Name, Id], Field(min_length=1, max_length=32)]
"""Uploads by the name of their stem."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DetectWish(_Model):
    """What to tell of the sounds in a recording."""

    top: int = Field(default=10, ge=1, le=527, description="Classes to tell of at most, the strongest first.")
    level: int | None = Field(
        default=None, ge=1, le=6, description="Tell of the active branches of this level of the ontology."
    )
    threshold: float = Field(default=0.2, ge=0, le=1, description="Probability from which a class is active.")


class ScoreWish(_Model):
    """Estimates to score against references; nothing is separated.

    Raises
    ------
    OptionError
        Neither or both of two ways to name the references, or the estimates; an unknown metric.
    """

    references: StemUploads | None = Field(default=None, description="Upload of each true stem.")
    stem_mp4: Id | None = Field(
        default=None, description="Upload of a MUSDB18 `.stem.mp4`, in place of references and mixture."
    )
    estimates: StemUploads | None = Field(default=None, description="Upload of each estimate.")
    job_id: Id | None = Field(
        default=None, description="A job of yours that has succeeded, whose stems are the estimates."
    )
    mixture: Id | None = Field(
        default=None, description="Upload of the mixture; the sum of the references if there is none."
    )
    any_order: bool = Field(
        default=False, description="The estimates are equals, each belongs to the reference it fits best."
    )
    metrics: tuple[Metric, ...] = Field(
        default=(), max_length=20, description="As in `stemwright eval score`; bsseval if there are none."
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if (self.references is None) == (self.stem_mp4 is None):
            raise OptionError("the true stems are to be named in one way", "give references or stem_mp4")
        if (self.estimates is None) == (self.job_id is None):
            raise OptionError("the estimates are to be named in one way", "give estimates or job_id")
        if self.stem_mp4 is not None and self.mixture is not None:
            raise OptionError("a .stem.mp4 has its mixture inside", "leave mixture out")
        check_metric_names(self.metrics)
        return self

    @property
    def first(self) -> str:
        """The upload that stands for the job's recording."""
        return self.stem_mp4 or next(iter((self.references or {}).values()))

    @property
    def uploads(self) -> tuple[str, ...]:
        """All uploads that are needed, the first included."""
        named = (*(self.references or {}).values(), *(self.estimates or {}).values())
        return tuple(dict.fromkeys(filter(None, (self.stem_mp4, self.mixture, *named))))


class JobSpec(_Model):
    """What a job is asked to do, as `stemwright separate` is asked by its options.

    Raises
    ------
    OptionError
        Options that contradict each other, or ask for a stage that this version does not have.
    """

    model: Name | None = Field(default=None, description="Model; the server's default if none is named.")
    stems: tuple[Name, ...] | None = Field(
        default=None, description="Write only these stems; what no stem needs is not run."
    )
    two_stems: Name | None = Field(default=None, description="Write this stem and `no_` it.")
    residual: bool = Field(
        default=False, description="Write also `residual`: the mixture minus all stems that are written."
    )
    remainder: Literal["mixture", "network"] | None = Field(
        default=None,
        description="Where a model's last stem comes from: the mixture minus the others, or the network.",
    )
    query: tuple[Name, ...] = Field(default=(), description="Sounds to separate, for models that are asked.")
    query_audio: Name | None = Field(default=None, description="Upload id of an example of the sound.")
    auto: bool = Field(default=False, description="Find the sounds in the recording, and separate them.")
    level: int | None = Field(default=None, ge=1, le=6, description="Level of the ontology for `auto`.")
    format: Container = Field(default="wav", description="Format of the stem files.")
    bit_depth: BitDepth | None = Field(default=None, description="Bits per sample of wav and flac.")
    bitrate: int | None = Field(default=None, ge=8, le=1024, description="kbit/s of mp3, ogg and m4a.")
    clip_mode: ClipMode = Field(default="shared", description="What happens beyond full scale.")
    shifts: int = Field(default=0, ge=0, le=100, description="Average over this many random time shifts.")
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Seed of the shifts.")
    overlap: float | None = Field(default=None, ge=0, lt=1, description="Overlap of chunks.")
    lyrics: bool = Field(default=False, description="Transcribe the vocals (not in this version).")
    evaluate: bool = Field(
        default=False,
        description="Score the stems too, against `references`, or those in an upload of MUSDB18's"
        " `.stem.mp4`; the scores are the result's `evaluation`.",
    )
    references: StemUploads | None = Field(
        default=None, description="Upload of each true stem, for `evaluate`; in JSON bodies only."
    )
    metrics: tuple[Metric, ...] = Field(
        default=(),
        max_length=20,
        description="For `evaluate`, as in `stemwright eval score`; bsseval if there are none.",
    )
    detect: DetectWish | None = Field(
        default=None, description="Only hear which sounds there are; `POST /v1/detect` makes such jobs."
    )
    score: ScoreWish | None = Field(
        default=None, description="Only score estimates; `POST /v1/evaluations` makes such jobs."
    )
    priority: int = Field(default=5, ge=1, le=9, description="Among the caller's own jobs; 1 comes first.")
    webhook_url: Annotated[str, Field(max_length=2000)] | None = Field(
        default=None, description="Called, signed, when the job has ended."
    )
    name: Annotated[str, Field(max_length=500)] | None = Field(
        default=None, description="Shown name; the file's name if there is none."
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        for wrong, message, remedy in self._contradictions():
            if wrong:
                raise OptionError(message, remedy)
        check_metric_names(self.metrics)
        return self

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that it goes through."""
        if self.score is not None:
            return ("probe", "evaluate", "publish")
        return ("probe", "separate", *(("evaluate",) if self.evaluate else ()), "publish")

    @property
    def uploads(self) -> tuple[str, ...]:
        """Uploads that it needs beside its recording and its example."""
        asked = self.score.uploads if self.score is not None else tuple((self.references or {}).values())
        return tuple(dict.fromkeys(asked))

    def _contradictions(self) -> tuple[tuple[bool, str, str], ...]:
        lossless = self.format in ("wav", "flac")
        named = bool(self.query) or self.query_audio is not None
        return (
            (self.lyrics, "lyrics are not in this version", "leave lyrics out"),
            (
                not self.evaluate and (self.references is not None or bool(self.metrics)),
                "references and metrics go with evaluate only",
                "add evaluate, or leave them out",
            ),
            (
                self.evaluate and not lossless,
                f"scores of {self.format} files would be those of their codec too",
                "use format wav or flac with evaluate",
            ),
            (
                self.two_stems is not None and (self.stems is not None or self.residual),
                "two_stems leaves no room for stems or residual",
                "use it alone, or leave it out",
            ),
            (
                self.stems is not None and (not self.stems or len(set(self.stems)) != len(self.stems)),
                "the list of stems is empty or repeats one",
                "name each stem once",
            ),
            (
                self.auto and named,
                "auto leaves no room for query or query_audio",
                "either name sounds or let them be found",
            ),
            (
                (self.auto or named) and (self.stems is not None or self.two_stems is not None),
                "the stems are those that are asked for, none can be chosen besides",
                "leave stems and two_stems out",
            ),
            (self.level is not None and not self.auto, "level goes with auto only", "leave level out"),
            (
                self.bit_depth is not None and not lossless,
                f"{self.format} has no bit depth",
                "leave bit_depth out, or use wav or flac",
            ),
            (
                self.bitrate is not None and lossless,
                f"{self.format} has no bit rate",
                "leave bitrate out, or use mp3, ogg or m4a",
            ),
            (
                self.clip_mode == "float" and (self.format != "wav" or self.bit_depth not in (None, "32f")),
                "only wav at 32f holds samples beyond full scale",
                "use format wav and bit_depth 32f",
            ),
            (
                self.bit_depth == "32f" and self.format != "wav",
                f"{self.format} has no 32-bit float",
                "use format wav, or bit_depth 24",
            ),
        )


class JobStatus(StrEnum):
    """How a job stands."""

    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self not in (JobStatus.queued, JobStatus.running)


class JobError(_Model):
    """Why a job failed."""

    code: str = Field(description="Stable code, as in problem documents.")
    message: str = Field(description="One line: what is wrong.")
    remedy: str = Field(default="", description="One line: what can be done about it.")


class StemView(_Model):
    """A stem file of a finished job."""

    name: str = Field(description="Name of the stem; of all of them joined by `+` in a file of several.")
    stems: tuple[str, ...] = Field(description="Stems in the file.")
    file: str = Field(description="File name, safe on every system.")
    size: int = Field(description="Bytes.")
    etag: str = Field(description="SHA-256 of the file, in hexadecimal digits, without quotes.")
    mime: str = Field(description="Media type.")
    key: str = Field(exclude=True, repr=False, description="Where it lies in the storage.")


class JobView(_Model):
    """A job as its owner sees it."""

    id: str
    name: str
    status: JobStatus
    stage: Stage | None = Field(default=None, description="The stage in work, or the last one begun.")
    fraction: Fraction = Field(default=0.0, description="Part of the whole job that is done.")
    position: int | None = Field(
        default=None, description="Of a queued job: how many of the same owner come before it."
    )
    created: datetime
    started: datetime | None = None
    finished: datetime | None = None
    expires: datetime | None = Field(default=None, description="When a finished job is removed.")
    duration_s: float | None = Field(default=None, description="Length of the recording, once it is known.")
    model: str
    spec: JobSpec
    stems: tuple[StemView, ...] = Field(default=(), description="Files; all at once when it has succeeded.")
    result: dict[str, Any] | None = Field(default=None, description="As in `result.json`.")
    error: JobError | None = None
    attempt: int = Field(default=0, description="How often a worker has begun it.")


class ProgressEvent(_Model):
    """What a job tells on its way; the last one of a stream has `final`."""

    id: str = Field(description="Give it to `events(after=...)` to go on behind it.")
    status: JobStatus
    stage: Stage | None = None
    fraction: Fraction = 0.0
    attempt: int = Field(default=0, description="Grows when another worker goes on: fractions may fall back.")
    at: datetime
    error: JobError | None = None
    final: bool = False


class Page(_Model):
    """Jobs, newest first."""

    items: tuple[JobView, ...]
    cursor: str | None = Field(default=None, description="For the next page; none where this is the last.")


class QueueFacts(_Model):
    """How a queue stands."""

    queue: str
    queued: int
    running: int
    oldest_queued_s: float = Field(description="Age of the oldest job that waits, 0 if none does.")


class WorkerView(_Model):
    """A worker that has shown itself."""

    id: str
    queue: str
    device: str = Field(description="Device that was asked for.")
    host: str | None = Field(default=None, description="Machine that it runs on.")
    pid: int | None = Field(default=None, description="Its process there.")
    provider: str | None = Field(description="Provider of a session that is really open; None before any.")
    models: tuple[str, ...] = Field(description="Models that are open.")
    job: str | None = Field(description="What it works on.")
    seen_s: float = Field(description="Seconds since its last sign of life, by the database's clock.")
    alive: bool


class Submitted(_Model):
    """Answer to a submission."""

    job: JobView
    created: bool = Field(description="False for the replay of a request that was taken before.")
