"""Facts measured on AudioSet's files; the tree as the reference implementation of USS makes it."""

import hashlib
from collections import Counter

import pytest

from stemwright.models.query.ontology import LABELS_FILE, ONTOLOGY_FILE, audioset

ROOTS = (
    "Human sounds",
    "Animal",
    "Music",
    "Natural sounds",
    "Sounds of things",
    "Source-ambiguous sounds",
    "Channel, environment and background",
)
LABELS = set(audioset().labels)


def mid(name: str) -> str:
    return audioset().by_name[name.casefold()].mid


def labelled(mids: tuple[str, ...]) -> int:
    return len(LABELS & set(mids))


def test_files_are_unchanged_copies_with_their_terms_beside() -> None:
    notice = (LABELS_FILE.parent / "NOTICE").read_text()
    for file in (LABELS_FILE, ONTOLOGY_FILE):
        assert hashlib.sha256(file.read_bytes()).hexdigest() in notice
    assert "CC BY-SA 4.0" in notice and "CC BY 4.0" in notice and "Google" in notice


def test_classes_and_labels() -> None:
    ontology = audioset()
    assert (len(ontology.classes), len(ontology.labels)) == (632, 527)
    assert len(ontology.by_name) == 632
    assert sum(one.abstract for one in ontology.classes.values()) == 23
    assert not any(ontology[label].abstract for label in ontology.labels)
    assert [ontology[label].index for label in ontology.labels] == list(range(527))
    assert ontology[ontology.labels[74]].name == "Dog"


def test_seven_roots() -> None:
    assert tuple(audioset()[root].name for root in audioset().roots) == ROOTS


def test_levels_of_the_tree() -> None:
    ontology = audioset()
    levels = Counter(ontology.level(mid) for mid in ontology.classes)
    assert [levels[level] for level in range(1, 7)] == [7, 42, 286, 229, 63, 5]
    full = [sum(labelled(ontology.branch(one.mid)) > 0 for one in ontology.at_level(n)) for n in range(1, 7)]
    assert full == [7, 41, 251, 198, 56, 3]
    (empty,) = [one for one in ontology.at_level(2) if not labelled(ontology.branch(one.mid))]
    assert empty.name == "Otoacoustic emission"


def test_roots_are_a_partition_in_the_tree_and_overlap_in_the_graph() -> None:
    ontology = audioset()
    tree = [labelled(ontology.branch(root)) for root in ontology.roots]
    graph = [labelled(ontology.descendants(root)) for root in ontology.roots]
    assert tree == [72, 65, 146, 17, 166, 40, 21] and sum(tree) == 527
    assert graph == [72, 65, 150, 18, 176, 55, 22] and sum(graph) == 558


@pytest.mark.parametrize(
    ("name", "tree", "graph"), [("Alarm", 16, 26), ("Siren", 2, 5), ("Onomatopoeia", 19, 30)]
)
def test_both_readings(name: str, tree: int, graph: int) -> None:
    ontology = audioset()
    assert (labelled(ontology.branch(mid(name))), labelled(ontology.descendants(mid(name)))) == (tree, graph)


def test_the_readings_differ_for_37_classes() -> None:
    ontology = audioset()
    differing = [
        one
        for one in ontology.classes
        if LABELS & set(ontology.branch(one)) != LABELS & set(ontology.descendants(one))
    ]
    assert len(differing) == 37


def test_path() -> None:
    path = ("Animal", "Domestic animals, pets", "Dog", "Bark")
    assert audioset().path(mid("Bark")) == path
