"""`stemwright train data`: look at, check and pack data, and make some."""

from pathlib import Path
from typing import Annotated

import typer

from stemwright.core.errors import OptionError

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

_Data = Annotated[Path, typer.Argument(metavar="DATA", help="A data folder, or a pack.")]
_Layout = Annotated[
    str | None,
    typer.Option(
        "--layout",
        metavar="LAYOUT",
        help="musdb18, stems, mir-1k, ikala, two-channel, speech, events or clips; found out by default.",
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print a line of JSON.")]


@app.callback()
def data() -> None:
    """Look at, check and pack data for training, and make some."""


@app.command()
def info(where: _Data, layout: _Layout = None, as_json: _Json = False) -> int:
    """Tell what is in a data folder or a pack; nothing is decoded."""
    from stemwright.training.cli.data_commands import show_info

    return show_info(where, layout=layout, as_json=as_json)


@app.command()
def check(where: _Data, layout: _Layout = None, as_json: _Json = False) -> int:
    """Decode all of a data folder and name what cannot be used: exit code 3 if there is any.

    Songs lack stems, or have stems that differ in length or rate; files are damaged, cut off, or silent.
    Packing leaves such out, and stops where they are more than 5 %. Mixtures that are not the sum of their
    stems are noted: training does not use them.
    """
    from stemwright.training.cli.data_commands import run_check

    return run_check(where, layout=layout, as_json=as_json)


@app.command()
def pack(
    where: _Data,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The pack.")],
    layout: _Layout = None,
    rate: Annotated[
        int | None, typer.Option("--rate", metavar="HZ", min=1000, help="Default: that of most recordings.")
    ] = None,
    channels: Annotated[
        int | None, typer.Option("--channels", min=1, max=2, help="Default: 2 if any recording has two.")
    ] = None,
    tagger: Annotated[
        str | None,
        typer.Option("--tagger", metavar="NAME", help="Find the sounds of events with this tagger: yamnet."),
    ] = None,
    segment: Annotated[
        float, typer.Option("--segment", metavar="S", min=0.1, help="Length of what the tagger finds.")
    ] = 2.0,
    per_clip: Annotated[
        int, typer.Option("--per-clip", metavar="N", min=1, help="Most segments of a clip and class.")
    ] = 1,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="LABEL=CLASS", help="AudioSet's class of a label; repeatable."),
    ] = None,
) -> int:
    """Decode a data folder into a pack, from which training reads segments without decoding.

    Training packs data folders by itself when it first uses them; a pack of one's own can be moved to another
    machine, where no audio library is needed.
    """
    from stemwright.training.cli.data_commands import PackRequest, run_pack

    named = [part.partition("=") for part in classes or ()]
    if not all(label and name for label, _, name in named):
        raise OptionError("--class takes LABEL=CLASS", 'such as --class "sea_waves=Waves, surf"')
    request = PackRequest(
        where=where,
        out=out,
        layout=layout,
        sample_rate=rate,
        channels=channels,
        tagger=tagger,
        segment_s=segment,
        per_clip=per_clip,
        classes=tuple((label, name) for label, _, name in named),
    )
    return run_pack(request)


@app.command()
def preview(
    where: Annotated[
        Path, typer.Argument(metavar="DATA", help="A data folder, a pack, or a configuration (.toml).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The page, a .html file.")],
    layout: _Layout = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="How many examples.")] = 6,
    seconds: Annotated[float, typer.Option("--seconds", min=0.2, max=30, help="Length of each.")] = 4.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Other examples.")] = 0,
) -> int:
    """Write a page of examples as training would draw them, to listen to and to look at.

    Speech is mixed in twos, songs are shown with their stems, events in pairs. A data folder is packed first.
    Of a configuration the first step is shown, as long and augmented as it is trained on.
    """
    from stemwright.training.cli.data_commands import run_preview

    return run_preview(where, out, layout=layout, count=count, seconds=seconds, seed=seed)


@app.command()
def synthesise(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The set.")],
    songs: Annotated[int, typer.Option("--songs", metavar="N", min=0, help="How many songs.")] = 0,
    speakers: Annotated[
        int, typer.Option("--speakers", metavar="N", min=0, help="Instead: speech of so many voices.")
    ] = 0,
    utterances: Annotated[
        int, typer.Option("--utterances", metavar="N", min=1, help="Of each of the speakers.")
    ] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another set.")] = 0,
    seconds: Annotated[float, typer.Option("--seconds", min=2, max=600, help="Length of a song.")] = 30.0,
    rate: Annotated[int, typer.Option("--rate", metavar="HZ", help="Of the songs.")] = 44100,
    voices: Annotated[
        Path | None,
        typer.Option("--voices", metavar="DATA", help="Speech or vocals to sing with; default: espeak-ng."),
    ] = None,
    layout: _Layout = None,
    midi: Annotated[
        list[Path] | None,
        typer.Option("--midi", metavar="PATH", help="Play this file or folder of MIDI; repeatable."),
    ] = None,
    soundfonts: Annotated[
        list[Path] | None,
        typer.Option(
            "--soundfont", metavar="FILE", help="Play with it; repeatable. Default: installed ones."
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Folder of the songs in the set.")] = "train",
) -> int:
    """Make songs with stems in the layout of MUSDB18-HQ, or speech in folders of speakers.

    Songs are composed, or played from MIDI, by FluidSynth, sung by voices that are moved onto the melody, and
    go through equalisers, compressors, rooms and codecs. The mixture is the sum of the stems sample by
    sample. The same seed makes the same songs; a second call goes on where the first one ended.
    """
    from stemwright.training.cli.synthesis_commands import SynthesisRequest, run_synthesis

    return run_synthesis(
        SynthesisRequest(
            out=out,
            songs=songs,
            speakers=speakers,
            utterances=utterances,
            seed=seed,
            seconds=seconds,
            sample_rate=rate,
            voices=voices,
            layout=layout,
            midi=tuple(midi or ()),
            soundfonts=tuple(soundfonts or ()),
            split=split,
        )
    )
