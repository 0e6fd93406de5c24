"""The index of a pack, `pack.json`: all that is known of its recordings beside their samples."""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stemwright.core.errors import InputError

INDEX_FILE = "pack.json"
FORMAT: Literal[1] = 1

Kind = Literal["stems", "speech", "events"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Recording(_Part):
    """One recording of a pack.

    Parameters
    ----------
    name
        Path below the data folder; unique together with `role`.
    group
        What must not be torn apart between training and validation: song, speaker, or origin of a clip.
    role
        The stem in a song, such as "vocals"; empty for speech and sound events.
    split
        The part of the data set that it belongs to by the set's own rule, such as "train" or "fold3"; may be
        empty.
    labels
        Classes of a sound event; sex of a speaker.
    offset, frames
        Place in the audio file.
    gain
        Factor of its samples.
    level
        Root mean square over the frames of 20 ms that are within 40 dB of the loudest; 0 for silence.
    peak
        Largest magnitude.
    """

    name: str
    group: str
    role: str = ""
    split: str = ""
    labels: tuple[str, ...] = ()
    offset: int = Field(ge=0)
    frames: int = Field(ge=1)
    gain: float = Field(gt=0)
    level: float = Field(ge=0)
    peak: float = Field(ge=0)


class SongStatistics(_Part):
    """Mean and standard deviation (n - 1) of a song's mixture, channels averaged."""

    mean: float
    std: float = Field(ge=0)


class Anchor(_Part):
    """A segment in which the tagger hears a class: row `i` of the anchors' file is the one of anchor `i`.

    Parameters
    ----------
    recording
        Number of the recording.
    label
        The class, as in the recording's labels.
    start
        First sample within the recording, which is silent beyond its ends.
    score
        The class's mean probability in the segment.
    """

    recording: int = Field(ge=0)
    label: str
    start: int
    score: float


class AnchorTable(_Part):
    """How anchors were found.

    Parameters
    ----------
    tagger, classes, embedding_size
        The tagger, ids of its classes (the first values of a row) and size of its embedding (the rest).
    segment
        Samples of an anchor.
    branches
        Of each label: places, among the tagger's classes, of its class and those that the ontology counts
        to it.
    """

    tagger: str
    classes: tuple[str, ...]
    embedding_size: int
    segment: int = Field(ge=1)
    anchors: tuple[Anchor, ...]
    branches: dict[str, tuple[int, ...]] = {}


class Skipped(_Part):
    """A file that could not be packed, and why."""

    name: str
    reason: str


class PackIndex(_Part):
    """All that is known of a pack beside its samples.

    Parameters
    ----------
    fingerprint
        Of the listing it was made from and of how it was made.
    statistics
        Of the mixture of each song, by group; only of stems.
    """

    format: Literal[1] = 1
    kind: Kind
    layout: str
    sample_rate: int = Field(ge=1)
    channels: int = Field(ge=1)
    frames: int = Field(ge=0)
    fingerprint: str
    recordings: tuple[Recording, ...]
    statistics: dict[str, SongStatistics] = {}
    anchors: AnchorTable | None = None
    skipped: tuple[Skipped, ...] = ()


def read_index(folder: Path) -> PackIndex:
    """Read a pack's index.

    Raises
    ------
    InputError
        No pack, or one that is damaged or of another version.
    """
    try:
        return PackIndex.model_validate_json((folder / INDEX_FILE).read_bytes())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"cannot read the pack {folder}: {reason}", "make it with `stemwright train data pack`"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"the index of the pack {folder} is not valid: {place}: {first['msg']}", "pack the data again"
        ) from error


def is_pack(folder: Path) -> bool:
    """Whether a folder holds a pack."""
    return (folder / INDEX_FILE).is_file()


def write_index(folder: Path, index: PackIndex) -> None:
    """Write the index of a pack."""
    text = json.dumps(index.model_dump(mode="json"), ensure_ascii=False, indent=1)
    (folder / INDEX_FILE).write_text(text, encoding="utf-8")
