"""What `stemwright eval lyrics-text` does."""

import logging
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from stemwright.eval.lyrics_files import LyricsSong, open_lyrics
from stemwright.eval.lyrics_scores import (
    LyricsPair,
    LyricsScores,
    TimingErrors,
    score_lyrics,
    score_times,
)
from stemwright.service.cli.main import printable
from stemwright.service.cli.output import print_json_line

_LOG = logging.getLogger(__name__)
_PLAIN_WIDTH = 160
_FORMATTING = {"punc": "punctuation", "pare": "parentheses", "line": "line breaks", "sect": "section breaks"}
_MISSING = "-"


@dataclass(frozen=True, kw_only=True)
class LyricsRequest:
    """What was asked of `eval lyrics-text`."""

    reference: Path
    estimate: Path
    language: str
    normalise: bool
    files: tuple[str, ...]
    as_json: bool


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """Scores of a song or of all; None where there are no true words, or no times on both sides."""

    words: LyricsScores | None
    times: TimingErrors | None


def score_lyrics_files(request: LyricsRequest) -> None:
    """Score lyrics and print the result.

    Raises
    ------
    InputError
        Files that do not belong together or cannot be read, or no true words.
    OptionError
        An unknown language, or the packages that count are not installed.
    """
    found = open_lyrics(request.reference, request.estimate, request.files)
    for name in found.left_out:
        _LOG.warning("%s is not scored: there is no reference", name)
    pooled = _Scored(
        words=score_lyrics([_pair(song, request) for song in found.songs], normalised=request.normalise),
        times=_times(found.songs),
    )
    songs = {song.name: _score(song, request) for song in found.songs}
    if request.as_json:
        print_json_line(
            {
                "songs": {name: _plain(asdict(one)) for name, one in songs.items()},
                "all": _plain(asdict(pooled)),
            }
        )
    else:
        _print(songs, pooled)


def _pair(song: LyricsSong, request: LyricsRequest) -> LyricsPair:
    return LyricsPair(reference=song.reference.text, hypothesis=song.estimate.text, language=request.language)


def _score(song: LyricsSong, request: LyricsRequest) -> _Scored:
    words = None
    if song.reference.text.strip():
        words = score_lyrics([_pair(song, request)], normalised=request.normalise)
    return _Scored(words=words, times=_times((song,)))


def _times(songs: tuple[LyricsSong, ...]) -> TimingErrors | None:
    timed = [
        (song.reference.times, song.estimate.times)
        for song in songs
        if song.reference.times and song.estimate.times
    ]
    return score_times(timed) if timed else None


def _plain(value: Any) -> Any:
    """Return data of JSON, which has no NaN."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print(songs: dict[str, _Scored], pooled: _Scored) -> None:
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, markup=False, highlight=False)
    rows = {**{printable(name): one for name, one in songs.items()}, "all songs": pooled}
    words = _table("song", "words", "WER", "CER", "substituted", "deleted", "inserted", "near misses")
    for name, one in rows.items():
        words.add_row(name, *_word_cells(one.words))
    console.print(words)
    if pooled.words is not None:
        console.print(_formatting(pooled.words))
        if pooled.words.invented_words:
            console.print(
                f"{pooled.words.invented_words} words found in songs without any: no rate counts them"
            )
    if pooled.times is not None:
        times = _table("onsets", "matched", "of the true", "median s", "mean s", "within 0.3 s")
        for name, one in rows.items():
            if one.times is not None:
                times.add_row(name, *_time_cells(one.times))
        console.print(times)


def _word_cells(scores: LyricsScores | None) -> list[str]:
    if scores is None:
        return [_MISSING] * 7
    counts = [f"{scores.rates[name]:.0f}" for name in ("substitutions", "deletions", "insertions")]
    rates = [_percent(scores.rates["WER"]), _percent(scores.cer)]
    return [str(scores.words), *rates, *counts, str(scores.near_misses)]


def _formatting(scores: LyricsScores) -> Table:
    table = _table("of all songs", "precision", "recall", "F1")
    for key, name in _FORMATTING.items():
        table.add_row(name, *(_percent(scores.rates[f"{part}_{key}"]) for part in ("P", "R", "F1")))
    table.add_row("words in another case", _percent(scores.rates["ER_case"]), "", "")
    return table


def _time_cells(times: TimingErrors) -> list[str]:
    errors = [_MISSING if math.isnan(value) else f"{value:.3f}" for value in (times.median_s, times.mean_s)]
    return [str(times.matched), _percent(times.share_matched), *errors, _percent(times.share_in_time)]


def _percent(share: float) -> str:
    return _MISSING if math.isnan(share) else f"{100 * share:.1f} %"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
