"""Scores of transcribed lyrics: error rates as alt-eval counts them, near misses, and errors of times.

References
----------
O. Cífka et al., "Lyrics Transcription for Humans: A Readability-Aware Benchmark", ISMIR 2024 (the rates; the
package alt-eval computes them, jiwer aligns).
"""

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from stemwright.core.errors import InputError, OptionError

_REMEDY = "pip install 'stemwright[eval]'"
_APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}"
_LATE_S = 0.3
"""Onsets within this many seconds are heard as in time (MIREX's automatic lyrics alignment)."""


@dataclass(frozen=True, kw_only=True)
class LyricsPair:
    """A song's true words and those found.

    Parameters
    ----------
    reference, hypothesis
        Texts: one sung line a line, empty lines between sections.
    language
        ISO 639 code.
    """

    reference: str
    hypothesis: str
    language: str = "en"


@dataclass(frozen=True, kw_only=True)
class LyricsScores:
    """Scores of a set of songs, pooled: errors of all songs over words of all songs.

    Parameters
    ----------
    rates
        Of alt-eval: WER, MER, WIL, hits, substitutions, deletions, insertions, ER_case, WER_case and
        precision, recall and F1 of punctuation, parentheses, line and section breaks; NaN where undefined.
    cer
        Character error rate of the same words, lower-cased and joined by single spaces.
    near_misses
        Substitutions by a word that differs in one or two letters of at least three.
    words
        Words of the references.
    invented_words
        Words found in songs whose reference has none; no rate counts them.
    """

    rates: dict[str, float]
    cer: float
    near_misses: int
    words: int
    invented_words: int


def score_lyrics(pairs: Sequence[LyricsPair], *, normalised: bool = False) -> LyricsScores:
    """Score transcriptions.

    Parameters
    ----------
    pairs
        The songs.
    normalised
        Whether both sides lose the punctuation at ends of lines and get a capital there first, as the
        long-form study does.

    Raises
    ------
    OptionError
        The packages that count are not installed, or a language is none that they know.
    InputError
        There are no words in any reference.
    """
    package = _package("alt_eval")
    if normalised:
        change = package.normalize_lyrics
        pairs = [
            LyricsPair(reference=change(p.reference), hypothesis=change(p.hypothesis), language=p.language)
            for p in pairs
        ]
    tokenised = [(_words(p.reference, p.language), _words(p.hypothesis, p.language), p) for p in pairs]
    scored = [entry for entry in tokenised if entry[0]]
    if not scored:
        raise InputError("no reference has a word", "give the lyrics that are sung")
    with np.errstate(invalid="ignore"):
        rates: dict[str, Any] = package.compute_metrics(
            [pair.reference for _, _, pair in scored],
            [pair.hypothesis for _, _, pair in scored],
            languages=[pair.language for _, _, pair in scored],
        )
    return LyricsScores(
        rates={name: float(value) for name, value in rates.items()},
        cer=_character_rate([(true, found) for true, found, _ in scored]),
        near_misses=sum(_near_misses(true, found) for true, found, _ in scored),
        words=sum(len(true) for true, _, _ in scored),
        invented_words=sum(len(found) for true, found, _ in tokenised if not true),
    )


def is_near_miss(first: str, second: str) -> bool:
    """Whether two words differ in one or two letters, and the longer has more than twice as many.

    Apostrophes around a word do not count.
    """
    from rapidfuzz.distance import Levenshtein

    first, second = first.strip(_APOSTROPHES), second.strip(_APOSTROPHES)
    distance = Levenshtein.distance(first, second)
    return distance in (1, 2) and max(len(first), len(second)) > 2 * distance


@dataclass(frozen=True, kw_only=True)
class TimedWord:
    """A word, or a line, with its begin and end in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class TimingErrors:
    """Errors of the onsets of what both sides have.

    Parameters
    ----------
    matched
        Number of words, or lines, that both sides have in the same order.
    share_matched
        Of the references.
    median_s, mean_s
        Absolute errors of their onsets in seconds; NaN if there are none.
    share_in_time
        Share of the matched whose onset is off by at most 0.3 s.
    """

    matched: int
    share_matched: float
    median_s: float
    mean_s: float
    share_in_time: float


def score_times(songs: Sequence[tuple[Sequence[TimedWord], Sequence[TimedWord]]]) -> TimingErrors:
    """Compare onsets of the words, or lines, that the alignment of both texts calls equal.

    Parameters
    ----------
    songs
        Of each song the true words and those found; songs are pooled.

    Raises
    ------
    InputError
        There are no references.
    OptionError
        The package that aligns is not installed.
    """
    true_words = sum(len(reference) for reference, _ in songs)
    if not true_words:
        raise InputError("there are no reference times", "give the words with their times")
    errors = np.array(
        [
            abs(found[j].start - reference[i].start)
            for reference, found in songs
            for i, j in _matches(
                [_bare(word.text) for word in reference], [_bare(word.text) for word in found]
            )
        ]
    )
    return TimingErrors(
        matched=len(errors),
        share_matched=len(errors) / true_words,
        median_s=float(np.median(errors)) if errors.size else math.nan,
        mean_s=float(errors.mean()) if errors.size else math.nan,
        share_in_time=float((errors <= _LATE_S).mean()) if errors.size else math.nan,
    )


def _bare(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise OptionError(f"scores of lyrics need the package {name.replace('_', '-')}", _REMEDY) from error


def _words(text: str, language: str) -> list[str]:
    """Return the words that the rates count, lower-cased."""
    tokenizer = _package("alt_eval.tokenizer")
    iso639 = _package("iso639")
    try:
        code = iso639.Language.match(language).part1
    except iso639.LanguageNotFoundError as error:
        raise OptionError(
            f"{language} is no language known here", "give a code of ISO 639, such as en or ja"
        ) from error
    tokens = tokenizer.LyricsTokenizer()(text, language=code)
    return [token.text.lower() for token in tokenizer.tokens_as_words(tokens)]


def _character_rate(pairs: Sequence[tuple[list[str], list[str]]]) -> float:
    jiwer = _package("jiwer")
    plain = jiwer.Compose([jiwer.ReduceToListOfListOfChars()])
    return float(
        jiwer.process_characters(
            [" ".join(true) for true, _ in pairs],
            [" ".join(found) for _, found in pairs],
            reference_transform=plain,
            hypothesis_transform=plain,
        ).cer
    )


def _near_misses(true: list[str], found: list[str]) -> int:
    return sum(
        is_near_miss(true[chunk.ref_start_idx + k], found[chunk.hyp_start_idx + k])
        for chunk in _alignment(true, found)
        if chunk.type == "substitute"
        for k in range(chunk.ref_end_idx - chunk.ref_start_idx)
    )


def _matches(true: list[str], found: list[str]) -> list[tuple[int, int]]:
    return [
        (chunk.ref_start_idx + k, chunk.hyp_start_idx + k)
        for chunk in _alignment(true, found)
        if chunk.type == "equal"
        for k in range(chunk.ref_end_idx - chunk.ref_start_idx)
    ]


def _alignment(true: list[str], found: list[str]) -> list[Any]:
    if not found:
        return []
    jiwer = _package("jiwer")
    same = jiwer.Compose([])
    words = jiwer.process_words([true], [found], reference_transform=same, hypothesis_transform=same)
    chunks: list[Any] = words.alignments[0]
    return chunks
