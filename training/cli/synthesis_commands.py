"""What `stemwright train data synthesise` does."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from stemwright.core.errors import EXIT_OK, InputError, OptionError
from stemwright.training.cli.data_commands import bar, layout_named
from stemwright.training.data.packing import open_data
from stemwright.training.synthesis.instruments import find_program, find_soundfonts
from stemwright.training.synthesis.songs import SAMPLE_RATES, SetRules, make_set
from stemwright.training.synthesis.speaking import make_speech
from stemwright.training.synthesis.voices import MachineVoices, RecordedVoices, Voices

_MIDI_SUFFIXES = (".mid", ".midi", ".smf")


@dataclass(frozen=True, kw_only=True)
class SynthesisRequest:
    """What `synthesise` was asked."""

    out: Path
    songs: int
    speakers: int
    utterances: int
    seed: int
    seconds: float
    sample_rate: int
    voices: Path | None
    layout: str | None
    midi: tuple[Path, ...]
    soundfonts: tuple[Path, ...]
    split: str


def run_synthesis(request: SynthesisRequest) -> int:
    """Make songs, or speech."""
    if (request.songs > 0) == (request.speakers > 0):
        raise OptionError("either songs or speakers are made", "say --songs N or --speakers N")
    if request.speakers:
        with bar("speaking") as report:
            make_speech(
                request.out,
                request.speakers,
                utterances=request.utterances,
                seed=request.seed,
                progress=report,
            )
    else:
        _make_songs(request)
    Console(markup=False, highlight=False, soft_wrap=True).print(f"wrote {request.out}")
    return EXIT_OK


def _make_songs(request: SynthesisRequest) -> None:
    if not request.split or Path(request.split).name != request.split:
        raise OptionError(f"{request.split!r} is no name of a folder", "such as --split train")
    if request.sample_rate not in SAMPLE_RATES:
        told = ", ".join(str(rate) for rate in SAMPLE_RATES)
        raise OptionError(f"songs are not made at {request.sample_rate} Hz", f"the rates are {told}")
    find_program()  # what is missing shows before anything is made
    fonts = find_soundfonts(request.soundfonts)
    rules = SetRules(
        seconds=request.seconds,
        sample_rate=request.sample_rate,
        split=request.split,
        midi=tuple(_midi_files(request.midi)),
    )
    voices = _voices(request)
    with bar("making songs") as report:
        make_set(
            request.out,
            request.songs,
            seed=request.seed,
            voices=voices,
            fonts=fonts,
            rules=rules,
            progress=report,
        )


def _voices(request: SynthesisRequest) -> Voices:
    if request.voices is None:
        return MachineVoices()
    with bar("packing voices") as report:
        return RecordedVoices(open_data(request.voices, layout=layout_named(request.layout), progress=report))


def _midi_files(places: tuple[Path, ...]) -> Iterator[Path]:
    for place in places:
        if not place.is_dir():
            yield place
            continue
        found = sorted(path for path in place.rglob("*") if path.suffix.lower() in _MIDI_SUFFIXES)
        if not found:
            raise InputError(f"{place} holds no MIDI files", "check the path")
        yield from found
