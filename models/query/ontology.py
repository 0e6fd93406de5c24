"""AudioSet's classes of sound and how they belong together.

The ontology is a graph in which a class may have several parents ("Growl" is made by dogs, cats and
people). Two readings of it are offered: `descendants` follows every parent and gives all that counts as a
sound; `branch` follows one parent only, so that the branches of a level share no class. That tree is made
as in the reference implementation of universal source separation: classes in the order of the file, each
below the first class that has it as a child, found by depth-first search.

References
----------
J. F. Gemmeke et al., "Audio Set: An ontology and human-labeled dataset for audio events", ICASSP 2017;
github.com/bytedance/uss.
"""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType

_DATA = Path(__file__).parent / "audioset"
LABELS_FILE = _DATA / "class_labels_indices.csv"
ONTOLOGY_FILE = _DATA / "ontology.json"


@dataclass(frozen=True, kw_only=True)
class SoundClass:
    """A class of the ontology.

    Parameters
    ----------
    mid
        AudioSet's id, such as "/m/0bt9lr".
    name
        English name, such as "Dog"; unique.
    description
        One to three English sentences.
    index
        Place among the 527 classes that AudioSet's clips are labelled with; None for the 105 others.
    children
        Ids of its children, in the file's order.
    abstract
        Exists to hold its children; nothing is labelled with it.
    """

    mid: str
    name: str
    description: str
    index: int | None
    children: tuple[str, ...]
    abstract: bool


class Ontology:
    """All classes, by id, in the file's order.

    Parameters
    ----------
    classes
        The classes; every child is among them.
    """

    def __init__(self, classes: tuple[SoundClass, ...]) -> None:
        self.classes = MappingProxyType({one.mid: one for one in classes})
        self.labels = tuple(
            one.mid for one in sorted(classes, key=lambda one: one.index or 0) if one.index is not None
        )

    def __getitem__(self, mid: str) -> SoundClass:
        return self.classes[mid]

    @cached_property
    def by_name(self) -> MappingProxyType[str, SoundClass]:
        """The classes by name in lower case."""
        return MappingProxyType({one.name.casefold(): one for one in self.classes.values()})

    @cached_property
    def parent(self) -> MappingProxyType[str, str]:
        """The one parent of each class in the tree; the seven roots have none."""
        return MappingProxyType(self._tree[0])

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """Ids of the classes of level 1."""
        children = {child for one in self.classes.values() for child in one.children}
        return tuple(mid for mid in self.classes if mid not in children)

    @cached_property
    def _tree(self) -> tuple[dict[str, str], dict[str, list[str]]]:
        parent: dict[str, str] = {}
        hung: dict[str, list[str]] = {mid: [] for mid in self.classes}
        placed: list[str] = []

        def depth_first() -> Iterator[str]:
            waiting = list(reversed(placed))
            while waiting:
                mid = waiting.pop()
                yield mid
                waiting.extend(reversed(hung[mid]))

        for mid in self.classes:
            if mid in self.roots:
                placed.append(mid)
                continue
            owner = next((one for one in depth_first() if mid in self.classes[one].children), None)
            if owner is None:
                raise ValueError(f"{mid} comes before all of its parents in the ontology")
            parent[mid] = owner
            hung[owner].append(mid)
        return parent, hung

    def level(self, mid: str) -> int:
        """Level of a class in the tree, 1..6."""
        level = 1
        while mid in self.parent:
            mid, level = self.parent[mid], level + 1
        return level

    def at_level(self, level: int) -> tuple[SoundClass, ...]:
        """Classes of a level of the tree, in the file's order."""
        return tuple(one for mid, one in self.classes.items() if self.level(mid) == level)

    def branch(self, mid: str) -> tuple[str, ...]:
        """Ids of a class and all below it in the tree, depth first."""
        return tuple(self._below(mid, lambda one: self._tree[1][one]))

    def descendants(self, mid: str) -> tuple[str, ...]:
        """Ids of a class and all that the ontology counts to it by any way, each once, depth first."""
        return tuple(dict.fromkeys(self._below(mid, lambda one: self.classes[one].children)))

    def path(self, mid: str) -> tuple[str, ...]:
        """Names from the root of the tree down to a class."""
        names = [self.classes[mid].name]
        while mid in self.parent:
            mid = self.parent[mid]
            names.append(self.classes[mid].name)
        return tuple(reversed(names))

    def _below(self, mid: str, children: Callable[[str], Sequence[str]]) -> Iterator[str]:
        waiting = [mid]
        while waiting:
            one = waiting.pop()
            yield one
            waiting.extend(reversed(children(one)))


@lru_cache(maxsize=1)
def audioset() -> Ontology:
    """Read AudioSet's ontology and list of labels, which are part of the package."""
    with LABELS_FILE.open(newline="", encoding="utf-8") as stream:
        places = {row["mid"]: int(row["index"]) for row in csv.DictReader(stream)}
    data = json.loads(ONTOLOGY_FILE.read_text(encoding="utf-8"))
    return Ontology(
        tuple(
            SoundClass(
                mid=one["id"],
                name=one["name"],
                description=one["description"],
                index=places.get(one["id"]),
                children=tuple(one["child_ids"]),
                abstract="abstract" in one["restrictions"],
            )
            for one in data
        )
    )
