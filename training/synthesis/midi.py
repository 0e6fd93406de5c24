"""Standard MIDI files: scores written to them, and files of one's own split into stems.

References
----------
MIDI Manufacturers Association, "Standard MIDI Files 1.0" (RP-001).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stemwright.core.errors import InputError
from stemwright.training.synthesis.scores import BASS_PROGRAMS, DRUM_CHANNEL, Note, Part, Stem

TICKS = 480  # of a beat
_LARGEST_BYTES = 4 << 20
_SUNG = ("vocal", "vox", "voice", "melody", "lead")


@dataclass(frozen=True, kw_only=True)
class Event:
    """A channel's event: ticks from the beginning, status byte, data bytes."""

    tick: int
    status: int
    data: bytes

    @property
    def channel(self) -> int:
        """0..15."""
        return self.status & 0x0F


@dataclass(frozen=True, kw_only=True)
class MidiFile:
    """What a file plays.

    Parameters
    ----------
    ticks
        Of a beat.
    tempos
        (tick, microseconds a beat), by tick; the first at 0.
    tracks
        Events of each track, by tick, and the track's name.
    """

    ticks: int
    tempos: tuple[tuple[int, int], ...]
    tracks: tuple[tuple[str, tuple[Event, ...]], ...]

    def seconds(self, tick: int) -> float:
        """Return when a tick is."""
        total, last, pace = 0.0, 0, self.tempos[0][1]
        for at, tempo in self.tempos:
            if at >= tick:
                break
            total += (at - last) * pace / self.ticks / 1e6
            last, pace = at, tempo
        return total + (tick - last) * pace / self.ticks / 1e6


def written(parts: Sequence[Part], tempo: float) -> bytes:
    """Write parts as a file of format 1, each in a track and a channel of its own."""
    header = (
        b"MThd" + (6).to_bytes(4, "big") + b"".join(v.to_bytes(2, "big") for v in (1, len(parts) + 1, TICKS))
    )
    pace = round(60e6 / tempo)
    tracks = [_track([(0, b"\xff\x51\x03" + pace.to_bytes(3, "big"))])]
    channels = iter(channel for channel in range(16) if channel != DRUM_CHANNEL)
    for part in parts:
        channel = DRUM_CHANNEL if part.stem == "drums" else next(channels)
        tracks.append(_track(_part_events(part, channel)))
    return header + b"".join(tracks)


def _part_events(part: Part, channel: int) -> list[tuple[int, bytes]]:
    events = [
        (0, bytes((0xC0 | channel, part.program))),
        (0, bytes((0xB0 | channel, 7, part.volume))),
        (0, bytes((0xB0 | channel, 10, part.pan))),
    ]
    notes: list[tuple[int, int, bytes]] = []
    for note in part.notes:
        start, end = round(note.start * TICKS), round((note.start + note.length) * TICKS)
        notes.append((start, 1, bytes((0x90 | channel, note.pitch, note.velocity))))
        notes.append((max(end, start + 1), 0, bytes((0x80 | channel, note.pitch, 0))))
    return events + [(tick, data) for tick, _, data in sorted(notes)]


def _track(events: Sequence[tuple[int, bytes]]) -> bytes:
    body, last = bytearray(), 0
    for tick, data in events:
        body += _variable(tick - last) + data
        last = tick
    body += b"\x00\xff\x2f\x00"
    return b"MTrk" + len(body).to_bytes(4, "big") + bytes(body)


def _variable(value: int) -> bytes:
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(value & 0x7F | 0x80)
    return bytes(reversed(out))


def read(path: Path) -> MidiFile:
    """Read a file of format 0 or 1.

    Raises
    ------
    InputError
        Not MIDI, damaged, larger than 4 MiB, of another format, or without notes.
    """
    try:
        data = path.read_bytes() if path.stat().st_size <= _LARGEST_BYTES else b""
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or '').lower()}", "check the path") from error
    try:
        return _parsed(data)
    except (IndexError, ValueError) as error:
        raise InputError(
            f"{path} is no MIDI file that can be played: {error}", "give a MIDI file of format 0 or 1"
        ) from error


def _parsed(data: bytes) -> MidiFile:
    if data[:4] != b"MThd":
        raise ValueError("it does not begin as one")
    form, count, ticks = (int.from_bytes(data[at : at + 2], "big") for at in (8, 10, 12))
    if form > 1 or not 0 < ticks < 0x8000:
        raise ValueError("its format or its division of time is not supported")
    place = 8 + int.from_bytes(data[4:8], "big")
    tempos, tracks = [(0, 500_000)], []
    for _ in range(count):
        if data[place : place + 4] != b"MTrk":
            raise ValueError("a track is missing")
        size = int.from_bytes(data[place + 4 : place + 8], "big")
        body = data[place + 8 : place + 8 + size]
        if len(body) < size:
            raise ValueError("it is cut off")
        name, events, found = _parsed_track(body)
        tempos += found
        tracks.append((name, events))
        place += 8 + size
    if not any(event.status >> 4 == 9 for _, events in tracks for event in events):
        raise ValueError("it has no notes")
    ordered = sorted(dict(sorted(tempos, key=lambda one: one[0])).items())
    return MidiFile(ticks=ticks, tempos=tuple(ordered), tracks=tuple(tracks))


def _parsed_track(body: bytes) -> tuple[str, tuple[Event, ...], list[tuple[int, int]]]:
    events: list[Event] = []
    tempos: list[tuple[int, int]] = []
    name, place, tick, status = "", 0, 0, 0
    while place < len(body):
        delta, place = _read_variable(body, place)
        tick += delta
        if body[place] & 0x80:
            status = body[place]
            place += 1
        if status == 0xFF:
            kind = body[place]
            size, start = _read_variable(body, place + 1)
            value = body[start : start + size]
            if kind == 0x51 and size == 3:
                tempos.append((tick, max(1, int.from_bytes(value, "big"))))
            elif kind == 0x03 and not name:
                name = value.decode("latin-1")
            place = start + size
        elif status in (0xF0, 0xF7):
            size, start = _read_variable(body, place)
            place = start + size
        elif 0x80 <= status < 0xF0:
            size = 1 if status >> 4 in (0xC, 0xD) else 2
            if place + size > len(body):
                raise ValueError("an event is cut off")
            events.append(Event(tick=tick, status=status, data=body[place : place + size]))
            place += size
        else:
            raise ValueError("it has an event that there is not")
    return name, tuple(events), tempos


def _read_variable(body: bytes, place: int) -> tuple[int, int]:
    value = 0
    for _ in range(4):
        byte = body[place]
        place += 1
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            return value, place
    raise ValueError("a length is longer than four bytes")


@dataclass(frozen=True, kw_only=True)
class SplitMidi:
    """A file's stems as files of their own, what is to be sung, and the length in seconds.

    Parameters
    ----------
    stems
        A stem without notes is not among them.
    melody
        Starts and lengths in seconds.
    """

    stems: dict[Stem, bytes]
    melody: tuple[Note, ...]
    seconds: float


def split(midi: MidiFile) -> SplitMidi:
    """Split a file into stems.

    Channel 10 is the drums; what is played by basses is the bass. The melody is the track whose name says so
    (vocal, voice, melody, lead), else nothing is sung; it is no part of the other stems.
    """
    sung = next(
        (n for n, (name, _) in enumerate(midi.tracks) if any(word in name.lower() for word in _SUNG)), None
    )
    chosen: dict[Stem, list[tuple[int, list[Event]]]] = {"drums": [], "bass": [], "other": []}
    for number, (_, events) in enumerate(midi.tracks):
        if number == sung:
            continue
        for stem in chosen:
            mine = [event for event, owner in _owners(events) if owner == stem]
            if any(event.status >> 4 == 9 for event in mine):
                chosen[stem].append((number, mine))
    stems = {
        stem: _rewritten(midi, [events for _, events in found]) for stem, found in chosen.items() if found
    }
    melody = () if sung is None else tuple(_melody(midi, midi.tracks[sung][1]))
    last = max(event.tick for _, events in midi.tracks for event in events)
    return SplitMidi(stems=stems, melody=melody, seconds=midi.seconds(last))


def _owners(events: Sequence[Event]) -> Iterator[tuple[Event, Stem]]:
    """Yield each event with the stem of its channel's instrument at that time."""
    programs: dict[int, int] = {}
    for event in events:
        if event.status >> 4 == 0xC:
            programs[event.channel] = event.data[0]
        if event.channel == DRUM_CHANNEL:
            yield event, "drums"
        else:
            yield event, "bass" if programs.get(event.channel, 0) in BASS_PROGRAMS else "other"


def _rewritten(midi: MidiFile, tracks: Sequence[Sequence[Event]]) -> bytes:
    tempo = _track([(tick, b"\xff\x51\x03" + pace.to_bytes(3, "big")) for tick, pace in midi.tempos])
    header = b"MThd" + (6).to_bytes(4, "big")
    header += b"".join(value.to_bytes(2, "big") for value in (1, len(tracks) + 1, midi.ticks))
    bodies = [_track([(one.tick, bytes((one.status,)) + one.data) for one in events]) for events in tracks]
    return header + tempo + b"".join(bodies)


def _melody(midi: MidiFile, events: Sequence[Event]) -> Iterator[Note]:
    """Yield the highest note at a time, each cut off by the next."""
    starts = sorted(
        {
            event.tick: event.data[0]
            for event in sorted(events, key=lambda e: (e.tick, e.data))
            if _is_on(event)
        }.items()
    )
    ends = [event.tick for event in events if event.status >> 4 in (8, 9) and not _is_on(event)]
    for place, (tick, pitch) in enumerate(starts):
        following = starts[place + 1][0] if place + 1 < len(starts) else tick + 4 * midi.ticks
        end = min([following, *(one for one in ends if one > tick)])
        start = midi.seconds(tick)
        yield Note(start=start, length=midi.seconds(end) - start, pitch=pitch)


def _is_on(event: Event) -> bool:
    return event.status >> 4 == 9 and event.data[1] > 0
