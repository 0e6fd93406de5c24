"""From what a user asks for to the stems of a separation.

A class is asked for by the tagger's probabilities of the very segment that is separated, with all classes
but those that belong to it set to zero; where none of those reaches the threshold the stem is silent. An
example is asked for by one condition throughout. Automatic queries first hear the recording: each branch of a
level of the ontology that is active somewhere becomes a stem.

References
----------
Q. Kong et al., "Universal Source Separation with Weakly Labelled Data", arXiv 2305.07447, section on
hierarchical separation; github.com/bytedance/uss.
"""

import hashlib
import re
import threading
import unicodedata
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError, OptionError
from stemwright.models.manifest import QueryRules
from stemwright.models.query.detection import Detection
from stemwright.models.query.examples import example_condition, example_files
from stemwright.models.query.matching import resolve
from stemwright.models.query.ontology import SoundClass, audioset
from stemwright.models.registry.model_files import file_sha256
from stemwright.models.separation.queries import StemQuery
from stemwright.models.taggers.session import TaggerSession

MAX_STEMS = 16
NO_SOUND = frozenset({"/m/028v0c"})
"""The class "Silence", which is heard between sounds and is no stem of automatic queries."""
# Windows whose hearing is kept: the queries of a window come one after the other, those of neighbouring
# feeds at most a few windows apart.
_KEPT = 64
# Names that Windows keeps for devices, with any extension.
_DEVICE = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]")


class Hearing:
    """What a tagger hears in the windows of a separation, each heard once for all queries.

    Parameters
    ----------
    tagger
        The model's tagger.
    """

    def __init__(self, tagger: TaggerSession) -> None:
        self._tagger = tagger
        self._heard: OrderedDict[int, FloatArray] = OrderedDict()
        self._lock = threading.Lock()

    def probabilities(self, window: FloatArray, sample_rate: int, key: int) -> FloatArray:
        """Return the probabilities of a window; arguments as ConditionSource.condition."""
        with self._lock:
            if key not in self._heard:
                self._heard[key] = self._tagger.segment(window, sample_rate).probabilities
                if len(self._heard) > _KEPT:
                    self._heard.popitem(last=False)
            return self._heard[key]


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassSource:
    """Conditions for classes: the window's probabilities, zero outside of the classes asked for.

    Parameters
    ----------
    hearing
        Shared by the queries of a separation.
    places
        Where the classes are among the tagger's.
    threshold
        Below it nothing asked for sounds in a window.
    """

    hearing: Hearing
    places: NDArray[np.intp]
    threshold: float

    def condition(self, window: FloatArray, sample_rate: int, key: int) -> FloatArray | None:
        """Return the condition of a window, as ConditionSource tells."""
        heard = self.hearing.probabilities(window, sample_rate, key)
        asked = heard[self.places]
        if float(asked.max()) < self.threshold:
            return None
        condition = np.zeros_like(heard)
        condition[self.places] = asked
        return condition


@dataclass(frozen=True, kw_only=True, eq=False)
class FixedSource:
    """The same condition for every window, shape=(D,)."""

    value: FloatArray

    def condition(self, window: FloatArray, sample_rate: int, key: int) -> FloatArray | None:
        """Return the condition of a window, as ConditionSource tells."""
        return self.value


@dataclass(frozen=True, kw_only=True)
class AskedStem:
    """A stem and what was asked for.

    Parameters
    ----------
    query
        What the engine is given.
    asked
        The user's words, the path of an example, or the class's name for an automatic stem.
    kind
        How it was asked for.
    mid, class_name
        The class of sound, None for an example.
    level
        Level of the ontology, of an automatic stem.
    example_sha256
        SHA-256 over the files of an example.
    """

    query: StemQuery
    asked: str
    kind: Literal["class", "example", "automatic"]
    mid: str | None = None
    class_name: str | None = None
    level: int | None = None
    example_sha256: str | None = None

    @property
    def name(self) -> str:
        """Name of the stem."""
        return self.query.name

    def as_dict(self) -> dict[str, Any]:
        """Return what was asked for, as JSON-ready data."""
        return {
            "asked": self.asked,
            "kind": self.kind,
            "mid": self.mid,
            "class_name": self.class_name,
            "level": self.level,
            "example_sha256": self.example_sha256,
        }


class QueryMaker:
    """Makes the queries of a model.

    Parameters
    ----------
    rules
        The model's rules.
    tagger
        The session of the tagger that they name.

    Raises
    ------
    ModelFileError
        The model does not take the conditions that the tagger makes.
    """

    def __init__(self, rules: QueryRules, tagger: TaggerSession) -> None:
        manifest = tagger.manifest
        by_class = rules.condition == "class_probabilities"
        made = len(manifest.classes) if by_class else manifest.embedding_size
        if rules.size != made:
            raise ModelFileError(
                f"the model takes conditions of {rules.size} values, its tagger {tagger.name} makes {made}",
                "use the model with the tagger that it was trained with",
            )
        self._rules = rules
        self._tagger = tagger
        self._places = {mid: place for place, mid in enumerate(manifest.classes)}

    def fixed(self, texts: Sequence[str], places: Sequence[Path]) -> tuple[AskedStem, ...]:
        """Return the stems of classes and examples; parameters and errors as of these two."""
        classes = self.classes(texts) if texts else ()
        return named_apart((*classes, *(self.examples(places) if places else ())))

    def classes(self, texts: Sequence[str]) -> tuple[AskedStem, ...]:
        """Return a stem for each class that is named.

        The class stands for all that the ontology counts to it.

        Raises
        ------
        OptionError
            A text names no class, two the same one, the tagger does not know it, or the model takes
            examples only.
        """
        self._check_takes_classes()
        hearing = Hearing(self._tagger)
        stems: list[AskedStem] = []
        for text, sound in _resolved(texts):
            source = self._source(hearing, sound, audioset().descendants(sound.mid))
            query = StemQuery(name=safe_stem(sound.name), source=source)
            stems.append(
                AskedStem(query=query, asked=text, kind="class", mid=sound.mid, class_name=sound.name)
            )
        return named_apart(stems)

    def examples(self, places: Sequence[Path]) -> tuple[AskedStem, ...]:
        """Return a stem for each recording, or folder of recordings, of the sound that is looked for.

        Raises
        ------
        InputError
            A recording cannot be read or is silent.
        """
        stems = []
        for where in places:
            value = example_condition(where, self._tagger, self._rules.condition)
            name = safe_stem(where.stem if where.is_file() else where.resolve().name)
            query = StemQuery(name=name, source=FixedSource(value=value))
            files = "".join(file_sha256(path) for path in example_files(where))
            digest = hashlib.sha256(files.encode()).hexdigest()
            stems.append(AskedStem(query=query, asked=str(where), kind="example", example_sha256=digest))
        return named_apart(stems)

    def automatic(
        self, detection: Detection, levels: Sequence[int], *, max_stems: int = MAX_STEMS
    ) -> tuple[AskedStem, ...]:
        """Return a stem for each branch of the ontology's levels that was heard.

        The stems of one level add up; those of several levels are alternatives of each other.

        Parameters
        ----------
        detection
            What the model's tagger heard in the recording.
        levels
            1..6.
        max_stems
            Most stems of a level; the weakest are left out.

        Raises
        ------
        OptionError
            No such level, nothing was heard, or the model takes examples only.
        """
        self._check_takes_classes()
        hearing = Hearing(self._tagger)
        stems = []
        for level in dict.fromkeys(levels):
            active = detection.at_level(level, threshold=self._rules.threshold, leave_out=NO_SOUND)
            for sound in (one.sound for one in active[:max_stems]):
                branch = (mid for mid in audioset().branch(sound.mid) if mid not in NO_SOUND)
                source = self._source(hearing, sound, branch)
                group = f"level={level}" if len(set(levels)) > 1 else None
                query = StemQuery(name=safe_stem(sound.name), source=source, exclusive_group=group)
                stems.append(
                    AskedStem(
                        query=query,
                        asked=sound.name,
                        kind="automatic",
                        mid=sound.mid,
                        class_name=sound.name,
                        level=level,
                    )
                )
        if not stems:
            raise OptionError(
                f"no class of sound is as probable as {self._rules.threshold} anywhere in the recording",
                "see `stemwright detect`, or ask for a sound by an example",
            )
        return named_apart(stems)

    def _source(self, hearing: Hearing, sound: SoundClass, belonging: Iterable[str]) -> ClassSource:
        places = sorted(self._places[mid] for mid in belonging if mid in self._places)
        if not places:
            raise OptionError(
                f"the tagger {self._tagger.name} does not know {sound.name!r}",
                "ask for a neighbouring class, or give an example",
            )
        return ClassSource(
            hearing=hearing, places=np.asarray(places, np.intp), threshold=self._rules.threshold
        )

    def _check_takes_classes(self) -> None:
        if self._rules.condition != "class_probabilities":
            raise OptionError(
                "this model is asked by examples, not by classes", "give recordings of the sound"
            )


def class_stems(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the stems of classes, as `QueryMaker.classes` gives them; no model is needed.

    Raises
    ------
    OptionError
        A text names no class, or two the same one.
    """
    named = [
        AskedStem(
            query=StemQuery(name=safe_stem(sound.name), source=FixedSource(value=np.zeros(0, np.float32))),
            asked=text,
            kind="class",
            class_name=sound.name,
        )
        for text, sound in _resolved(texts)
    ]
    return tuple(stem.name for stem in named_apart(named))


def _resolved(texts: Sequence[str]) -> list[tuple[str, SoundClass]]:
    """Look up the class of each text; none may be meant twice."""
    found: dict[str, tuple[str, SoundClass]] = {}
    for text in texts:
        sound = resolve(text)
        if sound.mid in found:
            raise OptionError(
                f"{found[sound.mid][0]!r} and {text!r} both mean {sound.name!r}", "ask for each sound once"
            )
        found[sound.mid] = text, sound
    return list(found.values())


def safe_stem(text: str) -> str:
    """Turn a label into the name of a stem: "Male speech, man speaking" -> "male_speech"."""
    head = re.split(r"[,(]", text)[0].strip() or text
    return _slug(head)


def named_apart(stems: Sequence[AskedStem]) -> tuple[AskedStem, ...]:
    """Give stems of the same name different ones: by the class's whole name, then by numbers."""
    counts = Counter(stem.name for stem in stems)
    names = [
        _slug(stem.class_name) if counts[stem.name] > 1 and stem.class_name is not None else stem.name
        for stem in stems
    ]
    taken: set[str] = set()
    for place, name in enumerate(names):
        number, free = 2, name
        while free in taken:
            free, number = f"{name[:58]}_{number}", number + 1
        taken.add(free)
        names[place] = free
    return tuple(
        replace(stem, query=replace(stem.query, name=name)) for stem, name in zip(stems, names, strict=True)
    )


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()
    name = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:60].rstrip("_") or "sound"
    return f"sound_{name}" if _DEVICE.fullmatch(name) else name
