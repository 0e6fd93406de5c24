"""The tables of a configuration that say where examples come from, as validated data."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stemwright.core.errors import OptionError
from stemwright.training.data.listing import Layout
from stemwright.training.data.pack import Pack

_Share = Annotated[float, Field(ge=0, le=1)]
_Range = tuple[float, float]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _OnePack(_Table):
    """What all tables have that read one pack.

    path
        A data folder, which is packed when it is first used, or a pack.
    layout
        How a data folder is laid out; None finds out.
    splits, groups, without_groups, labels
        Only a part of it: `Pack.subset`.
    hold_out, part
        Share of the groups (songs, speakers, origins of clips) that is held out, and which side this is.
    weight
        Among several `sources`.
    """

    path: Path
    layout: Layout | None = None
    splits: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    without_groups: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None
    hold_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    part: Literal["kept", "held_out"] = "kept"
    weight: Annotated[float, Field(gt=0)] = 1.0

    def selected(self, pack: Pack) -> Pack:
        chosen = pack.subset(
            splits=self.splits, groups=self.groups, without_groups=self.without_groups, labels=self.labels
        )
        if self.hold_out == 0:
            return chosen
        kept, held_out = chosen.held_out(self.hold_out)
        return held_out if self.part == "held_out" else kept


class SpeechTable(_OnePack):
    """Voices mixed on the fly; `noise` is a data folder or pack of noises, the rest as in `SpeechRules`."""

    kind: Literal["speech"]
    speakers: Annotated[int, Field(ge=1, le=4)] = 2
    snr_db: Annotated[float, Field(ge=0)] = 5.0
    level_db: _Range = (-26.0, -26.0)
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    pools: tuple[str, ...] = ()
    speeds: tuple[float, ...] = (1.0,)
    room_share: _Share = 0.0
    noise: Path | None = None
    noise_layout: Layout | None = None
    noise_db: _Range = (5.0, 20.0)
    noise_share: _Share = 0.0


class ListedTable(_OnePack):
    """Mixtures that LibriMix's metadata list, of utterances in LibriSpeech."""

    kind: Literal["librimix"]
    metadata: Path


class SongTable(_OnePack):
    """Segments of songs, as in `SongRules`.

    targets
        Names of the targets, each with its stems.
    repitch
        Share of the examples whose pitch and tempo are changed.
    """

    kind: Literal["songs"]
    targets: dict[str, tuple[str, ...]] | None = None
    remix: _Share = 0.0
    normalise: bool = False
    repitch: _Share = 0.0


class EventTable(_OnePack):
    """Pairs of sound events; as in `EventRules` and `AnchorRules`."""

    kind: Literal["events"]
    condition: Literal["probabilities", "embedding"] = "probabilities"
    asked_share: _Share = 0.0
    snr_db: Annotated[float, Field(ge=0)] = 0.0
    level_db: _Range = (0.0, 0.0)
    tagger: str = "yamnet"
    per_clip: Annotated[int, Field(ge=1)] = 1
    classes: dict[str, str] = {}


_OneTable = Annotated[SpeechTable | ListedTable | SongTable | EventTable, Field(discriminator="kind")]


_TABLES: dict[str, type[_Table]] = {
    "speech": SpeechTable,
    "librimix": ListedTable,
    "songs": SongTable,
    "events": EventTable,
}


class _Several(_Table):
    sources: Annotated[tuple[_OneTable, ...], Field(min_length=1)]


class _Either(_Table):
    table: _OneTable


class AugmentTable(_Table):
    """What is changed about the stems of a batch of songs: `BatchRules`, the shift in seconds.

    The table `augment` beside the data's own settings. `shift_s` makes what is read longer by so much.
    """

    shift_s: Annotated[float, Field(ge=0)] = 0.0
    flip_sign: bool = False
    swap_channels: bool = False
    gain: _Range | None = None
    remix_group: Annotated[int, Field(ge=0)] = 0


OneTable = SpeechTable | ListedTable | SongTable | EventTable


def tables_of(settings: Mapping[str, Any]) -> tuple[OneTable, ...]:
    """Return the tables that settings hold: one, or those of `sources`.

    Raises
    ------
    OptionError
        A setting that there is not, that is missing or that has no possible value.
    """
    try:
        if "sources" in settings:
            return _Several.model_validate(dict(settings)).sources
        return (_Either.model_validate({"table": dict(settings)}).table,)
    except ValidationError as error:
        raise _told(error) from error


def augment_table(settings: Mapping[str, Any]) -> AugmentTable | None:
    """Return the table `augment` of settings; None where there is none; raises OptionError as `tables_of`."""
    if "augment" not in settings:
        return None
    try:
        return AugmentTable.model_validate(settings["augment"])
    except ValidationError as error:
        raise _told(error, "augment") from error


def _told(error: ValidationError, section: str = "") -> OptionError:
    first = error.errors(include_url=False)[0]
    kind = section or next((str(part) for part in first["loc"] if part in _TABLES), "")
    place = [str(part) for part in first["loc"] if part != "table" and part not in _TABLES]
    name = ".".join(place)
    if first["type"] == "extra_forbidden":
        models = [AugmentTable if section else _TABLES[kind]] if kind else [_Several]
        known = list(dict.fromkeys(field for model in models for field in model.model_fields))
        near = get_close_matches(place[-1], known, n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(known)}"
        return OptionError(f"the data has a setting {name}, which there is not", remedy)
    if first["type"] in ("union_tag_not_found", "union_tag_invalid"):
        return OptionError(
            f"the data {name + ' ' if name else ''}has no kind that there is",
            f"say kind = {', '.join(_TABLES)}",
        )
    if first["type"] == "missing":
        return OptionError(
            f"the data lacks the setting {name}", "add it; docs/training.md tells what it means"
        )
    return OptionError(f"the data: {name}: {first['msg']}", "docs/training.md lists the settings")
