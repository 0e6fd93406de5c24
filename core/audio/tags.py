"""Tags: what a recording says of itself, carried into its stems.

Read and written by FFmpeg's libraries alone. Tags are kept under one canonical name each
(FFmpeg's where it has one, else the Vorbis comment's in lower case) and are spelled in each
container as MusicBrainz Picard's mapping has it. Anything else, ReplayGain above all, which would
be wrong for a stem, is left behind.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import av.error
from av.container import InputContainer
from av.stream import Disposition

from stemwright.core.audio.media import open_media
from stemwright.core.audio.pictures import identify
from stemwright.core.errors import InputError

TagStyle = Literal["vorbis", "id3", "mp4", "riff"]

# canonical name: spelling in ID3v2 (a frame, or the description of a TXXX frame) and in MP4's
# free-form atoms, where FFmpeg has no name of its own for both. From Picard's tag mapping.
_SPELLINGS: Mapping[str, tuple[str, str]] = {
    "isrc": ("TSRC", "ISRC"),
    "musicbrainz_trackid": ("MusicBrainz Track Id", "MusicBrainz Track Id"),
    "musicbrainz_releasetrackid": ("MusicBrainz Release Track Id", "MusicBrainz Release Track Id"),
    "musicbrainz_albumid": ("MusicBrainz Album Id", "MusicBrainz Album Id"),
    "musicbrainz_artistid": ("MusicBrainz Artist Id", "MusicBrainz Artist Id"),
    "musicbrainz_albumartistid": ("MusicBrainz Album Artist Id", "MusicBrainz Album Artist Id"),
    "musicbrainz_releasegroupid": ("MusicBrainz Release Group Id", "MusicBrainz Release Group Id"),
    "musicbrainz_workid": ("MusicBrainz Work Id", "MusicBrainz Work Id"),
    "stem": ("STEM", "STEM"),
    "separation_tool": ("SEPARATION_TOOL", "SEPARATION_TOOL"),
    "separation_model": ("SEPARATION_MODEL", "SEPARATION_MODEL"),
    "separation_model_sha256": ("SEPARATION_MODEL_SHA256", "SEPARATION_MODEL_SHA256"),
}
_COMMON = (
    "title",
    "artist",
    "album",
    "album_artist",
    "date",
    "track",
    "disc",
    "genre",
    "composer",
    "copyright",
    "comment",
)
_CANONICAL = {
    **{name: name for name in (*_COMMON, *_SPELLINGS)},
    **{spelling.lower(): name for name, both in _SPELLINGS.items() for spelling in both},
    "year": "date",
    "tracknumber": "track",
    "discnumber": "disc",
    "albumartist": "album_artist",
    "description": "comment",
}
MAX_COVER_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Tags:
    """Tags under their canonical names, and the cover picture.

    Parameters
    ----------
    fields
        Canonical name to text: title, artist, album, album_artist, date, track, disc, genre,
        composer, copyright, comment, isrc, musicbrainz_trackid and the other MusicBrainz ids; in
        stems also stem, separation_tool, separation_model, separation_model_sha256.
    cover
        An encoded JPEG or PNG picture; anything else is not written.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    cover: bytes | None = None


def read_tags(path: str | Path) -> Tags:
    """Read the known tags and the cover (JPEG or PNG, up to 16 MiB) of a recording.

    Raises
    ------
    InputError
        The file cannot be read as a recording.
    """
    path = Path(path)
    try:
        with path.open("rb") as file, open_media(file) as container:
            metadata = dict(container.metadata)
            for stream in container.streams.audio[:1]:
                # Ogg keeps tags with the stream
                metadata.update({key: text for key, text in stream.metadata.items() if key not in metadata})
            cover = _cover(container)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(
            f"cannot read the tags of {path.name}: {getattr(error, 'strerror', None) or error}",
            "give an audio or video file that can be read",
        ) from error
    return Tags(fields=canonical_fields(metadata), cover=cover)


def for_stem(tags: Tags, stem: str, *, tool: str, model: str, model_sha256: str = "") -> Tags:
    """Make the tags of a stem: those of the recording, the stem in the title, and how it was made.

    Parameters
    ----------
    tags
        Of the recording.
    stem
        Name of the stem; it is appended to the title.
    tool
        Name and version of the program.
    model, model_sha256
        Name and digest of the model.
    """
    fields = dict(tags.fields)
    fields["title"] = f"{fields['title']} ({stem})" if fields.get("title") else stem
    fields["stem"] = stem
    fields["separation_tool"] = tool
    fields["separation_model"] = model
    if model_sha256:
        fields["separation_model_sha256"] = model_sha256
    return Tags(fields=fields, cover=tags.cover)


def _cover(container: InputContainer) -> bytes | None:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            continue
        # FFmpeg hands an attached picture out before anything else
        packet = next(container.demux(stream), None)
        if packet is not None and packet.size <= MAX_COVER_BYTES and identify(bytes(packet)) is not None:
            return bytes(packet)
    return None


def canonical_fields(metadata: Mapping[str, str]) -> dict[str, str]:
    """Keep the known tags of FFmpeg's metadata, under their canonical names; first spelling wins."""
    fields: dict[str, str] = {}
    for key, text in metadata.items():
        name = _CANONICAL.get(key.lower())
        clean = text.replace("\0", "").strip()
        if name and clean:
            fields.setdefault(name, clean)
    return fields


def container_fields(fields: Mapping[str, str], style: TagStyle) -> dict[str, str]:
    """Spell canonical tags as FFmpeg's muxer of a container takes them.

    RIFF has few names, so that what made a stem goes into the comment there. MP4 keeps only the
    common tags so; `free_form_fields` has the rest.
    """
    if style == "vorbis":
        return {name.upper() if name in _SPELLINGS else name: text for name, text in fields.items()}
    if style == "riff":
        return _riff_fields(fields)
    if style == "mp4":
        return {name: text for name, text in fields.items() if name in _COMMON}
    return {(_SPELLINGS[name][0] if name in _SPELLINGS else name): text for name, text in fields.items()}


def free_form_fields(fields: Mapping[str, str]) -> dict[str, str]:
    """Spell the tags that MP4 keeps in iTunes' free-form atoms."""
    return {_SPELLINGS[name][1]: text for name, text in fields.items() if name in _SPELLINGS}


def _riff_fields(fields: Mapping[str, str]) -> dict[str, str]:
    own = [f"{name}={fields[name]}" for name in _SPELLINGS if name in fields]
    plain = {name: text for name, text in fields.items() if name not in _SPELLINGS}
    if own:
        plain["comment"] = "; ".join([*([plain["comment"]] if "comment" in plain else []), *own])
    return plain
