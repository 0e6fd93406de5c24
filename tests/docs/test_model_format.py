"""docs/model-format.md is true to the manifest's code."""

import re
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from stemwright.core.errors import ModelFileError
from stemwright.core.transforms import Transform
from stemwright.models.manifest import Bag, Embedder, Manifest, Tagger, parse_manifest
from stemwright.models.registry.model_files import MANIFEST_KEY
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "model-format.md").read_text()
CODE = set(re.findall(r"`([^`\n]+)`", PAGE))
EXAMPLES = re.findall(r"```json\n(.*?)```", PAGE, re.S)


def data_classes(start: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """A data class and all that its fields are made of."""
    if start not in seen:
        seen.add(start)
        for field in start.model_fields.values():
            for part in flat(field.annotation):
                if isinstance(part, type) and issubclass(part, BaseModel):
                    data_classes(part, seen)
    return seen


def flat(annotation: Any) -> list[Any]:
    """An annotation and everything inside it, the values of Literals too."""
    return [annotation, *(inner for part in get_args(annotation) for inner in flat(part))]


ALL = sorted(
    {one for kind in (Manifest, Bag, Tagger, Embedder) for one in data_classes(kind, set())},
    key=lambda one: one.__name__,
)


@pytest.mark.parametrize("data_class", ALL, ids=lambda one: one.__name__)
def test_every_field_and_value_is_on_the_page(data_class: type[BaseModel]) -> None:
    assert set(data_class.model_fields) <= CODE
    for field in data_class.model_fields.values():
        values = {part for part in flat(field.annotation) if isinstance(part, str)}
        assert values <= CODE


@pytest.mark.parametrize("data_class", ALL, ids=lambda one: one.__name__)
def test_every_pattern_is_on_the_page(data_class: type[BaseModel]) -> None:
    patterns = re.findall(r"'pattern': '([^']+)'", str(data_class.model_json_schema()))
    assert {pattern for pattern in patterns if pattern != "^[0-9a-f]{64}$"} <= CODE


def test_the_transforms_defaults_are_on_the_page() -> None:
    rows = {row[0]: row[1] for row in re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE, re.M)}
    for name, field in Transform.model_fields.items():
        if isinstance(field.default, str):
            first = re.search(rf"`{field.default}` \(default\)", PAGE[PAGE.index(f"| `{name}` |") :])
            assert first is not None, name
        elif isinstance(field.default, int):
            assert re.search(rf"\b{field.default}\b", rows[name]), name


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_are_valid(text: str) -> None:
    assert parse_manifest(text, where="the page").name in ("my-model", "pair", "ears", "place")


@pytest.mark.parametrize("weight", ["NaN", "Infinity", "-1.0", "0.0"])
def test_a_bags_weights_have_to_make_sense(weight: str) -> None:
    with pytest.raises(ModelFileError):
        parse_manifest(EXAMPLES[1].replace("1.0", weight), where="the page")


def test_there_is_an_example_of_each_kind_and_the_key_is_right() -> None:
    assert {type(parse_manifest(text, where="")) for text in EXAMPLES} == {Manifest, Bag, Tagger, Embedder}
    assert MANIFEST_KEY in CODE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"schema_version": 1', '"schema_version": 2'),
        ('"schema_version": 1', '"schema_version": "1.0"'),
        ('"family"', '"new_field": 1, "family"'),
        ('"sample_rate": 44100', '"sample_rate": 999'),
        ('"channels": 2', '"channels": NaN'),
        ('"name": "my-model"', '"name": "../x"'),
        ('"role": "waveform"', '"role": "cac"'),
        ('"output_samples": 441000', '"output_samples": 441001'),
        ('"vocals", "accompaniment"', '"vocals", "vocals"'),
        ('"family": "my-family",', ""),
    ],
)
def test_what_must_be_refused_is(old: str, new: str) -> None:
    assert old in EXAMPLES[0]
    with pytest.raises(ModelFileError):
        parse_manifest(EXAMPLES[0].replace(old, new), where="the page")
