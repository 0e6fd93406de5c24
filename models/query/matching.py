"""From what a user writes to a class of sound.

A label is an id, an index of AudioSet's 527 classes, or a name; a name may be misspelt. Any other text is
mapped onto the words of the ontology: names, names of the classes above, descriptions. That is a look-up in
a list of sounds and no understanding of language: "the woman on the left" finds what has "woman" in it.

The rule of scores: each word of the text counts by how rare it is in the ontology. It is found in a class
with the share 1 in the class's own name, 0.8 in the name of a class above it, 0.5 in its description, times
the similarity of spelling if the word is not in the ontology as it stands. The score is the share of the
text found, less what is in the class's name and not in the text.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from stemwright.core.errors import OptionError
from stemwright.models.query.ontology import Ontology, SoundClass, audioset

NEAREST = 5
# Chosen here on the phrases of tests/models/query/test_matching.py.
_SURE = 0.72
_LEAST_SHOWN = 0.2
_LEAST_SPELLING = 0.72
_SHARES = (1.0, 0.8, 0.5)  # in the name, in a name above, in the description
_UNASKED = 0.15  # what a name loses if nothing of it was asked for
_FILLERS = frozenset(
    "a an and any are at be being by for from in into is it its like of off on one or other some someone "
    "something that the their there these this to up used when where which with sound sounds noise noises "
    "audio recording hear heard".split()
)
# Everyday words that neither names nor descriptions have, or have in another sense.
_SAME_MEANING = {
    "auto": "car",
    "automobile": "car",
    "bike": "bicycle",
    "birdsong": "bird vocalization",
    "chat": "conversation",
    "cop": "police",
    "cows": "cattle",
    "cow": "cattle",
    "hoover": "vacuum cleaner",
    "kid": "child",
    "kids": "children",
    "kick": "bass",
    "kitten": "cat",
    "lorry": "truck",
    "mobile": "telephone",
    "motorbike": "motorcycle",
    "people": "crowd",
    "phone": "telephone",
    "plane": "airplane",
    "puppy": "dog",
    "talk": "speech",
    "talking": "speech",
    "talks": "speech",
    "tv": "television",
}
_ENDINGS = ("ings", "ing", "ers", "er", "ies", "es", "ed", "s", "e", "y")


@dataclass(frozen=True, kw_only=True)
class Match:
    """A class that a text may mean.

    Parameters
    ----------
    mid, name, index
        The class, as SoundClass.
    path
        Names of the classes above it, from the root down, and its own.
    score
        0..1; 1 for its id, index or name.
    """

    mid: str
    name: str
    index: int | None
    path: tuple[str, ...]
    score: float


def resolve(text: str) -> SoundClass:
    """Return the class that a text means.

    Parameters
    ----------
    text
        AudioSet id ("/m/0bt9lr"), index of the 527 classes ("74"), name ("Dog"), or words ("dog bark").

    Raises
    ------
    OptionError
        No class is meant clearly; the remedy names the nearest five.
    """
    if not _words(text):
        raise OptionError("a query without words", "name a sound, such as 'dog bark'")
    found = _exact(text)
    if found is not None:
        return found
    matches = suggest(text, NEAREST)
    if matches and matches[0].score >= _SURE:
        return audioset()[matches[0].mid]
    shown = matches or _by_spelling(text, NEAREST)
    names = ", ".join(repr(match.name) for match in shown)
    raise OptionError(f"no class of sound is called {text!r}", f"the nearest are {names}")


def suggest(text: str, limit: int = NEAREST) -> tuple[Match, ...]:
    """Return the classes nearest to a text, best first; the last word may be unfinished.

    Parameters
    ----------
    text
        As for resolve.
    limit
        Most classes to return.
    """
    ontology = audioset()
    exact = _exact(text)
    scores = _lexicon().scores(text)
    if exact is not None:
        scores[exact.mid] = 1.0
    best = sorted(scores.items(), key=lambda item: (-item[1], len(ontology[item[0]].name)))
    return tuple(_match(ontology, mid, score) for mid, score in best[:limit] if score >= _LEAST_SHOWN)


def _match(ontology: Ontology, mid: str, score: float) -> Match:
    one = ontology[mid]
    return Match(mid=mid, name=one.name, index=one.index, path=ontology.path(mid), score=round(score, 4))


def _exact(text: str) -> SoundClass | None:
    ontology, wanted = audioset(), text.strip()
    if wanted in ontology.classes:
        return ontology[wanted]
    if wanted.isdecimal() and int(wanted) < len(ontology.labels):
        return ontology[ontology.labels[int(wanted)]]
    mid = _lexicon().named(wanted)
    return None if mid is None else ontology[mid]


def _by_spelling(text: str, limit: int) -> tuple[Match, ...]:
    """Return the names that look most like a text; for the message only."""
    ontology = audioset()
    names = {mid: ontology[mid].name for mid in _askable(ontology)}
    found = process.extract(text, names, scorer=fuzz.WRatio, processor=str.casefold, limit=limit)
    return tuple(_match(ontology, mid, score / 100.0) for _, score, mid in found)


def _askable(ontology: Ontology) -> tuple[str, ...]:
    """Ids of the classes that are labelled, or have one below them that is."""
    return tuple(
        mid
        for mid in ontology.classes
        if any(ontology[below].index is not None for below in ontology.descendants(mid))
    )


class _Lexicon:
    """Words of the ontology, and in which classes each is found with which share."""

    def __init__(self, ontology: Ontology) -> None:
        # Names as they stand, then without their endings, then parts: "dogs" is Dog before it is a part of
        # "Canidae, dogs, wolves".
        self._names: tuple[dict[str, str], dict[str, str], dict[str, str]] = ({}, {}, {})
        self._shares: dict[str, dict[str, float]] = {}
        self._name_stems: dict[str, frozenset[str]] = {}
        askable = _askable(ontology)
        for mid in askable:
            self._add(ontology, mid)
        self._rarity = {stem: math.log(1 + len(askable) / len(found)) for stem, found in self._shares.items()}
        self._unknown = math.log(1 + len(askable))
        self._vocabulary = tuple(self._shares)

    def _add(self, ontology: Ontology, mid: str) -> None:
        one = ontology[mid]
        whole, stemmed, parts = self._names
        whole[" ".join(_words(one.name))] = mid
        stemmed.setdefault(" ".join(_stems(_words(one.name))), mid)
        for part in re.split(r"[,(]", one.name):
            parts.setdefault(" ".join(_words(part)), mid)
        name = frozenset(_stems(_words(one.name)))
        self._name_stems[mid] = name
        above = {stem for other in ontology.path(mid)[:-1] for stem in _stems(_words(other))}
        described = set(_stems(_words(one.description)))
        for stems, share in zip((described, above, name), reversed(_SHARES), strict=True):
            for stem in stems:
                self._shares.setdefault(stem, {})[mid] = share

    def named(self, text: str) -> str | None:
        """Return the id of the class of this name, give or take endings and blanks."""
        words = _words(text)
        whole, stemmed, parts = self._names
        return (
            whole.get(" ".join(words))
            or whole.get("".join(words))
            or stemmed.get(" ".join(_stems(words)))
            or parts.get(" ".join(words))
        )

    def scores(self, text: str) -> dict[str, float]:
        """Score every class in which something of a text is found."""
        words = _meant(_words(text))
        stems = _stems(words)
        totals: dict[str, float] = {}
        asked = 0.0
        matched: set[str] = set()
        for place, stem in enumerate(stems):
            known = self._spellings(stem, unfinished=place == len(stems) - 1)
            weight = max((self._rarity[one] for one in known), default=self._unknown)
            asked += weight
            best: dict[str, float] = {}
            for one, similarity in known.items():
                matched.add(one)
                for mid, share in self._shares[one].items():
                    best[mid] = max(best.get(mid, 0.0), similarity * share)
            for mid, share in best.items():
                totals[mid] = totals.get(mid, 0.0) + weight * share
        return {mid: max(0.0, total / asked - self._unasked(mid, matched)) for mid, total in totals.items()}

    def _unasked(self, mid: str, matched: set[str]) -> float:
        name = self._name_stems[mid]
        return _UNASKED * len(name - matched) / max(len(name), 1)

    def _spellings(self, stem: str, *, unfinished: bool) -> Mapping[str, float]:
        """Words of the ontology that a word may stand for, each with its similarity."""
        if stem in self._shares:
            return {stem: 1.0}
        found: dict[str, float] = {}
        if unfinished and len(stem) >= 2:
            begun = (one for one in self._vocabulary if one.startswith(stem))
            found = {one: 0.6 + 0.4 * len(stem) / len(one) for one in begun}
        if len(stem) >= 4:
            near = process.extract(
                stem,
                self._vocabulary,
                scorer=OSA.normalized_similarity,
                score_cutoff=_LEAST_SPELLING,
                limit=NEAREST,
            )
            found |= {one: max(score, found.get(one, 0.0)) for one, score, _ in near}
        return found


@lru_cache(maxsize=1)
def _lexicon() -> _Lexicon:
    return _Lexicon(audioset())


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return re.findall(r"[a-z0-9]+", plain.replace("'s", "").replace("'", ""))


def _meant(words: Iterable[str]) -> list[str]:
    """Leave fillers out unless nothing else was said, and use the ontology's words."""
    kept = [word for word in words if word not in _FILLERS] or list(words)
    return [meant for word in kept for meant in _SAME_MEANING.get(word, word).split()]


def _stems(words: Iterable[str]) -> list[str]:
    """Cut common endings off, so that bark, barks and barking are one word."""
    return list(dict.fromkeys(_stem(word) for word in words if word not in _FILLERS)) or list(words)


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            cut = word[: -len(ending)]
            # "running" is run, "bell" stays bell.
            doubled = ending in ("ings", "ing", "ers", "er", "ed") and len(cut) > 3 and cut[-1] == cut[-2]
            return cut[:-1] if doubled and cut[-1] not in "ls" else cut
    return word
