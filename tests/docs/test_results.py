"""docs/results.md names every field that results have."""

import dataclasses
import re

import pytest

from stemwright.service import ledger, outcomes, results
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "results.md").read_text()
CODE = set(re.findall(r"`([^`\n]+)`", PAGE))
DATA_CLASSES = (
    *(results.TrackResult, results.ModelFacts, results.LicenceFacts, results.NetworkFacts),
    *(results.InputFacts, results.FileFacts, ledger.Row, ledger.WrittenFile, ledger.InputPrint),
    outcomes.ErrorFacts,
)


@pytest.mark.parametrize("data_class", DATA_CLASSES, ids=lambda one: one.__name__)
def test_every_field_is_on_the_page(data_class: type) -> None:
    assert {field.name for field in dataclasses.fields(data_class)} <= CODE
