"""docs/training.md names every setting and every shipped configuration of a paper."""

import re

import pytest
from pydantic import BaseModel

from stemwright.training.config import CONFIGS_DIR, TrainConfig
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "training.md").read_text()
WORDS = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`\n]+)`", PAGE))))


def settings(model: type[BaseModel]) -> set[str]:
    """Names of all settings of a section and those below it."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        found.add(name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= settings(inner)
    return found


@pytest.mark.parametrize("name", sorted(settings(TrainConfig)))
def test_every_setting_is_on_the_page(name: str) -> None:
    assert name in WORDS


def test_every_configuration_of_a_paper_is_on_the_page() -> None:
    names = {path.stem for path in CONFIGS_DIR.glob("*.toml")}
    papers = {name for name in names if re.search(r"wsj0|causal|music|musdb|ikala|dsd100|audioset", name)}
    assert len(papers) == 8
    assert all(f"`{name}`" in PAGE for name in papers)
