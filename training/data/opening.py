"""From the tables of a configuration to sources of examples.

[data.train]
kind = "speech"
path = "LibriSpeech"      # a data folder, or a pack
hold_out = 0.05           # of the speakers; data.valid has the same and part = "held_out"
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from stemwright.training.data.tables import (
    ListedTable,
    OneTable,
    SongTable,
    SpeechTable,
    augment_table,
    tables_of,
)


@dataclass(frozen=True, kw_only=True)
class Shape:
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
    tables = tables_of({name: value for name, value in settings.items() if name != "augment"})
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
    table = augment_table(settings)
    if table is None:
        return None
    return BatchRules(
        shift=round(table.shift_s * sample_rate),
        flip_sign=table.flip_sign,
        swap_channels=table.swap_channels,
        gain=table.gain,
        remix_group=table.remix_group,
    )


def _open(
    table: OneTable,
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
