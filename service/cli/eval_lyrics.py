"""`stemwright eval lyrics-text`: options; the work is in eval_lyrics_scores.py."""

from pathlib import Path
from typing import Annotated

import typer


def lyrics_text(
    reference: Annotated[
        Path, typer.Option("--reference", metavar="DIR|FILE", help="The true lyrics, .txt or .csv.")
    ],
    estimate: Annotated[
        Path, typer.Option("--estimate", metavar="DIR|FILE", help="The lyrics to score, by the same names.")
    ],
    language: Annotated[
        str, typer.Option("--language", metavar="CODE", help="Of all songs; a code of ISO 639.")
    ] = "en",
    normalise: Annotated[
        bool,
        typer.Option("--normalise", help="Lines of both begin with a capital and end without punctuation."),
    ] = False,
    files: Annotated[
        list[str] | None,
        typer.Option(
            "--files", metavar="PATTERN", help="Only files of such names: 'lyrics.txt'; repeatable."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as a line of JSON.")] = False,
) -> int:
    """Score transcribed lyrics: word and character error rates, formatting, and errors of times.

    Files are paired by name, in sub-folders too: SONG.txt, one sung line a line. SONG.csv has columns
    start_s, end_s and word (with line, the number of its line) or text (a row a line); where both sides have
    one, onsets of the words, or lines, that both have are compared. Rates are alt-eval's, pooled over songs.
    """
    from stemwright.service.cli.eval_lyrics_scores import LyricsRequest, score_lyrics_files

    score_lyrics_files(
        LyricsRequest(
            reference=reference,
            estimate=estimate,
            language=language,
            normalise=normalise,
            files=tuple(files) if files else ("*",),
            as_json=as_json,
        )
    )
    return 0
