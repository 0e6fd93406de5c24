"""From the tables of a configuration to sources of examples.

[data.train]
kind = "speech"
path = "LibriSpeech"      # a data folder, or a pack
hold_out = 0.05           # of the speakers; data.valid has the same and part = "held_out"
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stemwright.core.errors import OptionError
from stemwright.training.augmentation.batch_rules import BatchRules
from stemwright.training.augmentation.repitching import RepitchRules
from stemwright.training.data.anchors import AnchorRules
from stemwright.training.data.events import EventPairs, EventRules
from stemwright.training.data.examples import Source
from stemwright.training.data.listing import Layout
from stemwright.training.data.mixed import Mixed
from stemwright.training.data.mixture_lists import ListedMixtures
from stemwright.training.data.pack import Pack
from stemwright.training.data.packing import PackRules, Progress, open_data
from stemwright.training.data.songs import SongRules, Songs
from stemwright.training.data.speech import SpeechMixtures, SpeechRules

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


class Shape(_Table):
    """What a network takes: Hz, channels, samples of an example, examples of a whole step, its stems."""

    sample_rate: int
    channels: int
    samples: int
    batch: int = 16
    stems: tuple[str, ...] | None = None


def open_source(
    settings: Mapping[str, Any],
    *,
    sample_rate: int,
    channels: int,
    samples: int,
    batch: int = 16,
    stems: Sequence[str] | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Source:
    """Open the source of examples that a table describes.

    Parameters
    ----------
    settings
        A table with `kind` (one of speech, librimix, songs, events) and what that takes, or with `sources`,
        a list of such tables with weights.
    sample_rate, channels, samples
        What the network takes.
    batch
        Examples of a step, all processes together.
    stems
        The network's stems in order, which songs are asked for where their table names no targets.
    cache
        Where data folders are packed.
    progress
        Called while a data folder is packed.

    Raises
    ------
    OptionError
        A setting that there is not, or that does not fit the data.
    InputError
        Data that cannot be used.
    ResourceError
        No room for a pack.
    """
    augment = augmentation_of(settings, sample_rate)
    longer = 0 if augment is None else augment.shift
    shape = Shape(
        sample_rate=sample_rate,
        channels=channels,
        samples=samples + longer,
        batch=batch,
        stems=None if stems is None else tuple(stems),
    )
    tables = _tables({name: value for name, value in settings.items() if name != "augment"})
    if augment is not None and not all(isinstance(table, SongTable) for table in tables):
        raise OptionError("only songs are augmented by stem", "leave the table augment out")
    sources = [_open(table, shape, cache, progress) for table in tables]
    return sources[0] if len(sources) == 1 else Mixed(sources, [table.weight for table in tables])


def augmentation_of(settings: Mapping[str, Any], sample_rate: int) -> BatchRules | None:
    """Return what is changed about the stems of a batch, by the table `augment`; None where there is none.

    Raises
    ------
    OptionError
        A setting that there is not.
    """
    if "augment" not in settings:
        return None
    try:
        table = AugmentTable.model_validate(settings["augment"])
    except ValidationError as error:
        raise _told(error, "augment") from error
    return BatchRules(
        shift=round(table.shift_s * sample_rate),
        flip_sign=table.flip_sign,
        swap_channels=table.swap_channels,
        gain=table.gain,
        remix_group=table.remix_group,
    )


def _tables(settings: Mapping[str, Any]) -> tuple[SpeechTable | ListedTable | SongTable | EventTable, ...]:
    try:
        if "sources" in settings:
            return _Several.model_validate(dict(settings)).sources
        return (_Either.model_validate({"table": dict(settings)}).table,)
    except ValidationError as error:
        raise _told(error) from error


def _open(
    table: SpeechTable | ListedTable | SongTable | EventTable,
    shape: Shape,
    cache: Path | None,
    progress: Progress | None,
) -> Source:
    def pack_of(path: Path, layout: Layout | None, channels: int | None, anchors: AnchorRules | None) -> Pack:
        rules = PackRules(sample_rate=shape.sample_rate, channels=channels, anchors=anchors)
        return open_data(path, rules, layout=layout, cache=cache, progress=progress)

    if isinstance(table, SpeechTable):
        voices = table.selected(pack_of(table.path, table.layout or "speech", 1, None))
        noise = None
        if table.noise is not None:
            noise = pack_of(table.noise, table.noise_layout or "clips", 1, None)
        speech = SpeechRules(
            speakers=table.speakers,
            samples=shape.samples,
            snr_db=table.snr_db,
            level_db=table.level_db,
            weights=table.weights,
            pools=frozenset(table.pools),
            speeds=table.speeds,
            room_share=table.room_share,
            noise_db=table.noise_db,
            noise_share=table.noise_share,
        )
        return SpeechMixtures(voices, speech, noise=noise)
    if isinstance(table, ListedTable):
        utterances = table.selected(pack_of(table.path, table.layout or "speech", 1, None))
        return ListedMixtures(utterances, table.metadata, samples=shape.samples)
    if isinstance(table, SongTable):
        songs = table.selected(pack_of(table.path, table.layout, None, None))
        of_network = {stem: (stem,) for stem in shape.stems or ()}
        rules = SongRules(
            targets=table.targets or of_network or None,
            samples=shape.samples,
            remix=table.remix,
            normalise=table.normalise,
            repitch=RepitchRules(share=table.repitch) if table.repitch else None,
            channels=shape.channels,
        )
        return Songs(songs, rules)
    anchors = AnchorRules(
        tagger=table.tagger,
        segment_s=shape.samples / shape.sample_rate,
        per_clip=table.per_clip,
        classes=tuple(sorted(table.classes.items())),
    )
    events = table.selected(pack_of(table.path, table.layout or "events", 1, anchors))
    return EventPairs(
        events,
        EventRules(
            batch_size=shape.batch,
            condition=table.condition,
            asked_share=table.asked_share,
            snr_db=table.snr_db,
            level_db=table.level_db,
            samples=shape.samples,
        ),
    )


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
