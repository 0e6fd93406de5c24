from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemwright.core.errors import InputError
from stemwright.training.synthesis import midi
from stemwright.training.synthesis.composing import compose
from stemwright.training.synthesis.scores import BASS_PROGRAMS, Note, Part, Score

# The example of a format 1 file in "Standard MIDI Files 1.0", with running status.
EXAMPLE = bytes.fromhex(
    "4D546864 00000006 0001 0004 0060"
    "4D54726B 00000014 00FF580404021808 00FF510307A120 8300FF2F00"
    "4D54726B 00000010 00C005 8140904C20 81404C00 00FF2F00"
    "4D54726B 0000000F 00C12E 60914340 82204300 00FF2F00"
    "4D54726B 00000015 00C246 00923060 003C60 83003000 003C00 00FF2F00".replace(" ", "")
)


def _file(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "file.mid"
    path.write_bytes(data)
    return path


def _notes(midi_file: midi.MidiFile) -> set[tuple[int, int, int, int]]:
    """(channel, pitch, first tick, last tick)"""
    found = set()
    for _, events in midi_file.tracks:
        on: dict[tuple[int, int], int] = {}
        for event in events:
            key = (event.channel, event.data[0])
            if event.status >> 4 == 9 and event.data[1] > 0:
                on[key] = event.tick
            elif event.status >> 4 in (8, 9):
                found.add((*key, on.pop(key), event.tick))
    return found


def test_the_standards_example_is_read(tmp_path: Path) -> None:
    read = midi.read(_file(tmp_path, EXAMPLE))
    assert _notes(read) == {(0, 76, 192, 384), (1, 67, 96, 384), (2, 48, 0, 384), (2, 60, 0, 384)}
    assert read.ticks == 96 and read.tempos == ((0, 500_000),)
    assert read.seconds(384) == pytest.approx(2.0)


def test_files_of_ones_own_are_split_into_stems(tmp_path: Path) -> None:
    parts = (
        Part(stem="drums", program=0, notes=(Note(start=0, length=1, pitch=36),)),
        Part(stem="bass", program=33, notes=(Note(start=1, length=1, pitch=30),)),
        Part(stem="other", program=4, notes=(Note(start=2, length=2, pitch=60),)),
    )
    split = midi.split(midi.read(_file(tmp_path, midi.written(parts, 120))))
    for stem, note in (
        ("drums", (9, 36, 0, 480)),
        ("bass", (1, 30, 480, 960)),
        ("other", (2, 60, 960, 1920)),
    ):
        again = midi.read(_file(tmp_path, split.stems[stem]))  # type: ignore[index]
        assert {
            (c if c == 9 else n, p, s, e) for n, (c, p, s, e) in zip([note[0]], _notes(again), strict=True)
        } == {note}
        assert again.tempos == ((0, 500_000),)
    assert split.seconds == pytest.approx(2.0) and split.melody == ()


def test_a_track_named_voice_is_sung(tmp_path: Path) -> None:
    name = b"\x00\xff\x03\x05Voice"
    body = name + bytes.fromhex("00C034 00904050 8140904350 8140804000 00804300 00FF2F00".replace(" ", ""))
    data = (
        EXAMPLE[:10] + (5).to_bytes(2, "big") + EXAMPLE[12:] + b"MTrk" + len(body).to_bytes(4, "big") + body
    )
    split = midi.split(midi.read(_file(tmp_path, data)))
    assert [(n.pitch, round(n.start, 3), round(n.length, 3)) for n in split.melody] == [
        (64, 0, 1),
        (67, 1, 1),
    ]
    assert b"\x90\x40\x50" not in split.stems["other"]


@pytest.mark.parametrize(
    "data",
    [b"", b"MThd", b"RIFF" + EXAMPLE[4:], EXAMPLE[:-3], EXAMPLE[:14], EXAMPLE[:9] + b"\x02" + EXAMPLE[10:],
 EXAMPLE[:14].replace(b"\x00\x04", b"\x00\x00")],
)  # fmt: skip
def test_what_is_no_midi_is_an_error_of_the_user(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputError, match=r"no MIDI file|cannot read"):
        midi.read(_file(tmp_path, data))


@settings(max_examples=60, deadline=None)
@given(where=st.integers(0, len(EXAMPLE) - 1), value=st.integers(0, 255))
def test_damaged_files_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, where: int, value: int
) -> None:
    data = bytearray(EXAMPLE)
    data[where] = value
    path = _file(tmp_path_factory.getbasetemp(), bytes(data))
    try:
        midi.split(midi.read(path))
    except InputError:
        return


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), song=st.integers(0, 10**6), seconds=st.floats(1, 90))
def test_songs_are_sound_whatever_is_drawn(seed: int, song: int, seconds: float) -> None:
    score = compose(seed, song, seconds)
    assert compose(seed, song, seconds) == score
    assert seconds <= score.seconds < seconds + 4 * 60 / score.tempo + 1e-6
    for part in (*score.parts, Part(stem="other", program=52, notes=score.melody)):
        assert all(0 <= note.pitch < 128 and 0 < note.velocity < 128 for note in part.notes)
        assert all(0 <= note.start < score.beats and note.length > 0 for note in part.notes)
        assert 0 <= part.pan < 128 and 0 <= part.program < 128
    for before, after in zip(score.melody, score.melody[1:], strict=False):
        assert before.start + before.length <= after.start + 1e-9  # one note at a time
    if score.parts:
        assert midi.written(score.parts, score.tempo).startswith(b"MThd")
    for part in score.of_stem("bass"):
        assert part.program in BASS_PROGRAMS


def _in_scale(score: Score) -> float:
    """Share of the pitched notes that the best of the 12 diatonic scales has."""
    pitches = [n.pitch % 12 for p in score.parts if p.stem == "other" for n in p.notes]
    pitches += [n.pitch % 12 for n in score.melody]
    scales = [{(key + step) % 12 for step in (0, 2, 4, 5, 7, 9, 11)} for key in range(12)]
    return max(sum(p in scale for p in pitches) / max(1, len(pitches)) for scale in scales)


def test_songs_differ_and_keep_to_a_key() -> None:
    scores = [compose(0, song, 30) for song in range(30)]
    assert len({score.tempo for score in scores}) > 25
    assert min(_in_scale(score) for score in scores) == 1
    with_stem = {stem: sum(bool(s.of_stem(stem)) for s in scores) for stem in ("drums", "bass", "other")}
    assert min(with_stem.values()) >= 25 and sum(bool(score.melody) for score in scores) >= 25
