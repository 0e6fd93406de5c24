"""A run of training as validated data: one TOML file each.

A key that there is not is an error that names the nearest one there is; so is a value of a wrong type. The
settings of the papers lie in `configs/`.
"""

import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stemwright.core.errors import OptionError

FamilyName = Literal["demucs", "conv_tasnet", "ibm_cnn", "universal"]
PrecisionChoice = Literal["auto", "bfloat16", "float32"]
ObjectiveKind = Literal["default", "l1", "mse", "si_snr", "ideal_mask", "autoencoder"]

CONFIGS_DIR = Path(__file__).parent / "configs"

_Share = Annotated[float, Field(ge=0, lt=1)]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelSection(_Data):
    """The network.

    family
        Family of models.
    variant
        A named configuration of the family (`tasks/`), which `sizes` changes.
    sizes
        Fields of the family's own configuration class.
    stems
        Names of the outputs where each has its own; empty for those of the family (Conv-TasNet: speakers).
    """

    family: FamilyName
    variant: str = "paper"
    sizes: dict[str, Any] = {}
    stems: tuple[str, ...] = ()


class DataSection(_Data):
    """Where examples come from: tables that `training.data.open_source` understands.

    segment_s
        Length of the examples that are trained on, in seconds; the task makes it one that the network takes.
    train, valid
        Sources; without `valid` nothing is validated.
    valid_segment_s
        Length of the validation's items; None: as long as the training's.
    """

    segment_s: float = Field(gt=0)
    train: dict[str, Any] = {}
    valid: dict[str, Any] = {}
    valid_segment_s: float | None = Field(default=None, gt=0)


class ObjectiveSection(_Data):
    """What is minimised.

    kind
        `default` is the paper's of the family. `l1`, `mse`: of waveforms; `si_snr`: negative SI-SNR of the
        best order of the sources; `ideal_mask`, `autoencoder`: the two stages of the IBM-CNN.
    mrstft
        Weight of the multi-resolution STFT loss that is added to it.
    limit_db
        SI-SNR above this is hardly rewarded; None: no limit, as in the papers.
    """

    kind: ObjectiveKind = "default"
    mrstft: float = Field(default=0.0, ge=0)
    limit_db: float | None = None


class OptimiserSection(_Data):
    """Adam or AdamW; the defaults are torch's."""

    kind: Literal["adam", "adamw"] = "adam"
    lr: float = Field(gt=0)
    betas: tuple[_Share, _Share] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    amsgrad: bool = False


class Stage(_Data):
    """From this step on the learning rate is multiplied by this factor."""

    step: int = Field(ge=0)
    factor: float = Field(gt=0)


class ScheduleSection(_Data):
    """The factor of the learning rate.

    kind
        `constant`; `plateau`: multiplied by `factor` whenever validation has not improved `patience` times
        in a row; `stages`: a list of steps and factors; `cosine`: half a cosine from 1 to `floor` over the
        run.
    warmup_steps
        The factor rises linearly from 0 over so many steps first (not with stages).
    progress
        What a cosine is counted in: `steps`, or `time`, the share of `loop.max_seconds` that is used up.
        Runs by time end where their hardware takes them and cannot be repeated bit by bit.
    """

    kind: Literal["constant", "plateau", "stages", "cosine"] = "constant"
    patience: int = Field(default=3, ge=1)
    factor: float = Field(default=0.5, gt=0, lt=1)
    stages: tuple[Stage, ...] = ()
    floor: float = Field(default=0.0, ge=0, le=1)
    warmup_steps: int = Field(default=0, ge=0)
    progress: Literal["steps", "time"] = "steps"

    @model_validator(mode="after")
    def _complete(self) -> "ScheduleSection":
        steps = [stage.step for stage in self.stages]
        if (self.kind == "stages") != bool(steps):
            raise ValueError("stages belong to the schedule of that name, which needs them")
        if steps and (steps[0] != 0 or steps != sorted(set(steps))):
            raise ValueError("stages begin at step 0 and follow on each other")
        return self


class LoopSection(_Data):
    """The loop.

    steps
        Updates of the weights in all.
    batch
        Examples of one update, of all processes together.
    precision
        `auto`: bfloat16 where the device computes in it, float32 elsewhere.
    ema
        Decay of the averaged weights, which are then what is validated and published; 0: none.
    clip
        Largest L2 norm of the gradient; None: not clipped.
    compile
        Let torch compile the network.
    workers
        Processes that make examples; 0: in the loop itself. Their number changes no example.
    seed
        Of the initial weights, the examples and the dropout.
    validate_every, validate_items
        Steps between validations by the network itself, and how many items each is of; 0 steps: none.
    serve_every, serve_items
        Every so many validations the network is exported and the items are separated by the engine; 0:
        never. Needs ONNX Runtime.
    checkpoint_every, keep
        Steps between checkpoints, and how many are kept beside the best.
    log_every
        Steps between lines of the log.
    max_seconds
        The run ends after so many seconds of training, as on hardware by the hour; None: no limit.
    best_by
        What makes the best checkpoint: the task's score, or the validation's loss.
    """

    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    precision: PrecisionChoice = "auto"
    ema: _Share = 0.0
    clip: float | None = Field(default=None, gt=0)
    compile: bool = False
    workers: int = Field(default=2, ge=0)
    seed: int = Field(default=0, ge=0)
    validate_every: int = Field(default=1000, ge=0)
    validate_items: int = Field(default=32, ge=1)
    serve_every: int = Field(default=0, ge=0)
    serve_items: int = Field(default=8, ge=1)
    checkpoint_every: int = Field(default=1000, ge=1)
    keep: int = Field(default=2, ge=1)
    log_every: int = Field(default=20, ge=1)
    max_seconds: float | None = Field(default=None, gt=0)
    best_by: Literal["score", "loss"] = "score"

    @property
    def limit_s(self) -> float:
        """Seconds after which the run ends."""
        return float("inf") if self.max_seconds is None else self.max_seconds


class PublishSection(_Data):
    """What the manifest says of the model that a run gives.

    licence_name, licence_text, licence_url
        Terms of its weights.
    training_data
        What it was trained on, with the licences of that.
    description
        One line; empty for the family's.
    scores_command
        The command that gives the scores of the model card.
    experimental
        The model does less than is expected of its kind; the manifest says so.
    """

    licence_name: str = "unknown"
    licence_text: str = "The terms of these weights have not been stated."
    licence_url: str = ""
    training_data: str = ""
    description: str = ""
    scores_command: str = ""
    experimental: bool = False


class TrainConfig(_Data):
    """A run of training."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    description: str = ""
    model: ModelSection
    data: DataSection
    objective: ObjectiveSection = ObjectiveSection()
    optimiser: OptimiserSection
    schedule: ScheduleSection = ScheduleSection()
    loop: LoopSection
    publish: PublishSection = PublishSection()

    @model_validator(mode="after")
    def _sections_fit(self) -> "TrainConfig":
        if self.schedule.progress == "time" and self.loop.max_seconds is None:
            raise ValueError("a schedule by time needs loop.max_seconds")
        if self.schedule.kind == "plateau" and not (self.loop.validate_every and self.data.valid):
            raise ValueError("a schedule by plateau needs a validation: data.valid and loop.validate_every")
        return self


def read_config(source: Path | str, changes: Sequence[tuple[list[str], Any]] = ()) -> TrainConfig:
    """Read a configuration.

    Parameters
    ----------
    source
        A TOML file, or the name of one of those in `configs/`.
    changes
        Settings that are set otherwise: path and value of each.

    Raises
    ------
    OptionError
        There is none, it is not TOML, or it says what no run can be.
    """
    path = find_config(source)
    try:
        with path.open("rb") as stream:
            given = tomllib.load(stream)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"cannot read the configuration {path}: {error}", "give a TOML file") from error
    for names, value in changes:
        table = given
        for name in names[:-1]:
            inner = table.setdefault(name, {})
            if not isinstance(inner, dict):
                raise OptionError(f"{name} of {path} holds no settings", "correct the setting's name")
            table = inner
        table[names[-1]] = value
    return config_from(given, str(path))


def find_config(source: Path | str) -> Path:
    """Return the file that a path or the name of a shipped configuration means; raises OptionError."""
    path = Path(source)
    if path.suffix == ".toml" or path.exists():
        return path
    shipped = CONFIGS_DIR / f"{source}.toml"
    if shipped.is_file():
        return shipped
    known = sorted(config.stem for config in CONFIGS_DIR.glob("*.toml"))
    near = get_close_matches(str(source), known, n=1)
    raise OptionError(
        f"there is no configuration {source}",
        f"did you mean {near[0]}?" if near else f"give a TOML file, or one of {', '.join(known)}",
    )


def config_from(given: dict[str, Any], where: str = "the configuration") -> TrainConfig:
    """Make a configuration of plain data; raises OptionError that names `where`."""
    try:
        return TrainConfig(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = [str(part) for part in first["loc"]]
        raise OptionError(*_explain(first["type"], place, str(first["msg"]), where)) from error


def _explain(kind: str, place: list[str], message: str, where: str) -> tuple[str, str]:
    """Cause and remedy of a mistake."""
    name = ".".join(place)
    if kind == "extra_forbidden":
        known = _keys(place[:-1])
        near = get_close_matches(place[-1], known, n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(known)}"
        return f"{where} has a setting {name}, which there is not", remedy
    if kind == "missing":
        return f"{where} lacks the setting {name}", "add it; docs/training.md tells what it means"
    message = message.removeprefix("Value error, ")
    return f"{where}: {name + ': ' if name else ''}{message}", "docs/training.md lists the settings"


def _keys(place: list[str]) -> list[str]:
    """Names of the settings of a section."""
    model: type[BaseModel] = TrainConfig
    for part in place:
        field = model.model_fields.get(part)
        inner = field.annotation if field else None
        if part.isdigit():
            inner = Stage
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return list(model.model_fields)
