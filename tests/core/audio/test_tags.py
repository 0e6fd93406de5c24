"""Tags and covers: carried from every container into every other that has a place for them."""

import io
from pathlib import Path

import av
import pytest

from stemwright.core.audio.encode import OutputFormat, open_writer
from stemwright.core.audio.pictures import identify
from stemwright.core.audio.tags import Tags, canonical_fields, container_fields, for_stem, read_tags
from stemwright.core.errors import InputError
from tests.core.audio.signals import RATE, jpeg, muxed, png, read, tone, wav

FIELDS = {
    "title": "Überfahrt",
    "artist": "Käthe & the Κύματα",
    "album": "Album",
    "album_artist": "Band",
    "date": "2001-02-03",
    "track": "3/9",
    "disc": "1/2",
    "genre": "Rock",
    "composer": "Somebody",
    "copyright": "CC0",
    "comment": "one; two",
    "isrc": "DEA123456789",
    "musicbrainz_trackid": "0a1b",
    "musicbrainz_releasetrackid": "1a1b",
    "musicbrainz_albumid": "2a1b",
    "musicbrainz_artistid": "3a1b",
    "musicbrainz_albumartistid": "4a1b",
    "musicbrainz_releasegroupid": "5a1b",
    "musicbrainz_workid": "6a1b",
}
STEM = for_stem(
    Tags(fields=FIELDS, cover=png()),
    "vocals",
    tool="stemwright 0.1.0",
    model="htdemucs",
    model_sha256="ab" * 32,
)


def tagged(path: Path, tags: Tags) -> Path:
    fmt = OutputFormat(container=path.suffix[1:])  # type: ignore[arg-type]
    with open_writer(path, fmt, RATE, 2, tags=tags) as writer:
        writer.write(tone(5000))
        return writer.commit()


def test_a_stem_says_what_it_is() -> None:
    assert STEM.fields["title"] == "Überfahrt (vocals)"
    assert STEM.fields["stem"] == "vocals"
    assert STEM.fields["separation_tool"] == "stemwright 0.1.0"
    assert STEM.fields["separation_model"] == "htdemucs"
    assert STEM.fields["separation_model_sha256"] == "ab" * 32
    assert STEM.cover == png()
    untitled = for_stem(Tags(), "drums", tool="t", model="m")
    assert untitled.fields == {
        "title": "drums",
        "stem": "drums",
        "separation_tool": "t",
        "separation_model": "m",
    }


@pytest.mark.parametrize("container", ["flac", "mp3", "ogg", "m4a"])
@pytest.mark.parametrize("cover", [png(), jpeg(), None], ids=["png", "jpeg", "none"])
def test_everything_survives(tmp_path: Path, container: str, cover: bytes | None) -> None:
    path = tagged(tmp_path / f"x.{container}", Tags(fields=STEM.fields, cover=cover))
    assert read_tags(path) == Tags(fields=STEM.fields, cover=cover)
    assert read(path).shape == (2, 5000)


def test_wav_keeps_what_it_has_names_for(tmp_path: Path) -> None:
    got = read_tags(tagged(tmp_path / "x.wav", STEM))
    for name in ("title", "artist", "album", "date", "track", "genre", "copyright"):
        assert got.fields[name] == STEM.fields[name]
    assert "stem=vocals" in got.fields["comment"]
    assert "separation_model_sha256=abab" in got.fields["comment"]
    assert got.cover is None


@pytest.mark.parametrize("container", ["wav", "flac", "mp3", "ogg", "m4a"])
def test_no_tags_no_harm(tmp_path: Path, container: str) -> None:
    assert read_tags(tagged(tmp_path / f"x.{container}", Tags())).fields == {}


def test_replay_gain_and_the_unknown_are_left_behind() -> None:
    metadata = {
        "TITLE": "A",
        "replaygain_track_gain": "-7 dB",
        "REPLAYGAIN_ALBUM_PEAK": "0.9",
        "R128_TRACK_GAIN": "5",
        "iTunNORM": "x",
        "encoder": "y",
        "TSRC": "DE1",
        "MusicBrainz Album Id": "m",
        "TRACKNUMBER": "4",
        "artist": "  ",
        "genre": "Rock\0Pop",
    }
    assert canonical_fields(metadata) == {
        "title": "A",
        "isrc": "DE1",
        "musicbrainz_albumid": "m",
        "track": "4",
        "genre": "RockPop",
    }


def test_spellings() -> None:
    fields = {"title": "a", "isrc": "b", "musicbrainz_albumid": "c"}
    assert container_fields(fields, "vorbis") == {"title": "a", "ISRC": "b", "MUSICBRAINZ_ALBUMID": "c"}
    assert container_fields(fields, "id3") == {"title": "a", "TSRC": "b", "MusicBrainz Album Id": "c"}
    assert container_fields(fields, "mp4") == {"title": "a"}


def test_tags_of_files_by_others(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with (
        av.open(io.BytesIO(muxed(tone(5000), "mp3", "libmp3lame")), "r") as source,
        av.open(buffer, "w", format="mp3") as target,
    ):
        copy = target.add_stream_from_template(source.streams.audio[0])
        target.metadata.update({"title": "Hey", "TSRC": "XX", "replaygain_track_gain": "-3 dB"})
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    (tmp_path / "x.mp3").write_bytes(buffer.getvalue())
    assert read_tags(tmp_path / "x.mp3").fields == {"title": "Hey", "isrc": "XX"}


def test_unreadable(tmp_path: Path) -> None:
    for data in (b"", b"text"):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(InputError, match="tags of x"):
            read_tags(tmp_path / "x")
    with pytest.raises(InputError, match="No such file"):
        read_tags(tmp_path / "y")
    (tmp_path / "x").write_bytes(wav(b"\0\0"))
    assert read_tags(tmp_path / "x") == Tags()


def test_a_damaged_cover_is_not_written(tmp_path: Path) -> None:
    for container in ("flac", "mp3", "ogg", "m4a"):
        path = tagged(tmp_path / f"x.{container}", Tags(fields={"title": "A"}, cover=b"GIF89a..."))
        assert read_tags(path) == Tags(fields={"title": "A"})


def test_pictures() -> None:
    small = identify(png(8, 4))
    assert small is not None
    assert (small.mime, small.codec, small.width, small.height) == ("image/png", "png", 8, 4)
    photo = identify(jpeg(16, 8))
    assert photo is not None
    assert (photo.mime, photo.codec, photo.width, photo.height) == ("image/jpeg", "mjpeg", 16, 8)
    for data in (b"", b"GIF89a", png()[:20], jpeg()[:10], b"\xff\xd8\xff\xff\xff"):
        assert identify(data) is None
