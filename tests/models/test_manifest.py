"""Manifests whose parts do not fit each other are refused, with a message and never with a crash."""

from typing import Any

import pytest
from pydantic import ValidationError

from stemwright.core.errors import ModelFileError
from stemwright.models.manifest import Manifest, parse_manifest
from tests.support.fake_sessions import fake_manifest

PLAIN = fake_manifest().model_dump(mode="json")
RULES = {"condition": "embedding", "size": 4, "tagger": "tagger"}
CONDITION = {"name": "condition", "role": "condition"}
MASKED = {
    "inputs": [{"name": "magnitude", "role": "magnitude"}],
    "outputs": [{"name": "mask", "role": "mask"}],
    "transform": {"n_fft": 64, "hop": 16},
}
UNCENTRED = {"n_fft": 64, "hop": 16, "padding": "none"}
STATE = {"input": "before", "output": "after", "shape": [1, 3]}
STATEFUL = {**PLAIN["graph"], "batch": "one", "state": [STATE]}
PIECES = {"input_samples": 256, "output_samples": 256, "overlap": 0, "window": "rectangular"}


def manifest(**changes: Any) -> Manifest:
    return Manifest.model_validate({**PLAIN, **changes})


def graph(**changes: Any) -> dict[str, Any]:
    return {**PLAIN["graph"], **changes}


def query(**changes: Any) -> dict[str, Any]:
    inputs = [*PLAIN["graph"]["inputs"], CONDITION]
    return {"stem_kind": "query", "stems": [], "query": RULES, "graph": graph(inputs=inputs), **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"remainder": "vocals"},
        {"stem_kind": "interchangeable"},
        {"scale_fit": {}},
        query(),
        {"graph": STATEFUL, "plan": PIECES, "streaming": {"latency_samples": 8}},
        {"graph": {**MASKED, "gate": 0.1, "outside_frames": "zero"}},
        {"plan": {"input_samples": 256, "output_samples": 256, "time": "variable", "multiple": 8}},
    ],
)
def test_parts_that_fit_are_taken_and_come_back(changes: dict[str, Any]) -> None:
    made = manifest(**changes)
    assert parse_manifest(made.model_dump_json(), where="the test") == made


@pytest.mark.parametrize(
    "changes",
    [
        {"stems": []},
        {"remainder": "drums"},
        {"remainder": "another"},
        {"stems": ["vocals"], "remainder": "vocals"},
        {"stems": ["speaker"], "stem_kind": "interchangeable"},
        {"remainder": "vocals", "stem_kind": "interchangeable"},
        {"remainder": "vocals", "scale_fit": {}},
        {"stem_kind": "query"},
        {"query": RULES},
        query(stems=["vocals"]),
        query(query=None),
        query(graph=PLAIN["graph"]),
        query(remainder="vocals"),
        query(scale_fit={}),
        {"graph": query()["graph"]},
        {"graph": graph(inputs=[CONDITION])},
        {"graph": graph(gate=0.1)},
        {"graph": {**MASKED, "gate": 1.0}},
        {"graph": graph(outside_frames="zero")},
        {
            "graph": {
                **MASKED,
                "transform": {"n_fft": 64, "hop": 16, "padding": "none"},
                "outside_frames": "zero",
            }
        },
        {"streaming": {"latency_samples": 8}},
        {"graph": STATEFUL, "plan": PIECES},
        {"graph": STATEFUL, "streaming": {"latency_samples": 8}},
        {"graph": {**STATEFUL, "batch": "dynamic"}, "plan": PIECES, "streaming": {"latency_samples": 8}},
        {
            "graph": {**STATEFUL, "state": [STATE, STATE]},
            "plan": PIECES,
            "streaming": {"latency_samples": 8},
        },
        {"plan": PIECES, "stem_kind": "interchangeable"},
        {"plan": {"input_samples": 256, "output_samples": 200, "time": "variable"}},
        {"plan": {"input_samples": 256, "output_samples": 256, "multiple": 7}},
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        manifest(**changes)


def test_a_query_model_with_a_remainder_is_a_bad_file_and_no_crash() -> None:
    text = manifest(**query()).model_dump_json().replace('"remainder":null', '"remainder":"vocals"')
    with pytest.raises(ModelFileError, match="remainder"):
        parse_manifest(text, where="the test")


def test_names_of_the_state_are_among_the_graphs_inputs_and_outputs() -> None:
    made = manifest(graph=STATEFUL, plan=PIECES, streaming={"latency_samples": 0}).graph
    assert made.input_names == ("mixture", "before")
    assert made.output_names == ("stems", "after")


def test_a_query_has_one_output() -> None:
    assert manifest(**query()).output_stems == 1
    assert manifest().output_stems == 4
