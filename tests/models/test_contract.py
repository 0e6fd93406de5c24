import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InternalError, ModelFileError
from stemwright.models.contract import check_contract
from stemwright.models.manifest import ChunkPlan, Manifest
from stemwright.models.registry.store import InstalledModel, open_model
from stemwright.models.sessions.opening import SessionOptions, open_session
from tests.models.contract import Meddling, assert_keeps_contract
from tests.support.fake_kinds import (
    ASKED_GRAPH,
    STATE_GRAPH,
    AskedSession,
    RememberingSession,
    asked_manifest,
    remembering_manifest,
)
from tests.support.fake_sessions import (
    FakeSession,
    Network,
    context_kernels,
    context_network,
    fake_manifest,
    gains_network,
)
from tests.support.tiny_models import install_tiny_model

NORMALISED = fake_manifest(normalise=True)


def outcomes(network: Network, **session: object) -> dict[str, str]:
    made = FakeSession(network=network, **session)  # type: ignore[arg-type]
    report = check_contract(NORMALISED, made)
    return {finding.check: finding.outcome for finding in report.findings}


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_a_model_folder_keeps_the_contract(tmp_path: Path, provider: str, *, normalise: bool) -> None:
    folder = install_tiny_model(tmp_path, normalise=normalise)
    model = open_model(folder)
    assert isinstance(model, InstalledModel)
    session = open_session(model, SessionOptions(cache_dir=tmp_path / "cache", device=provider))
    assert_keeps_contract(model.manifest, session)
    session.close()


@pytest.mark.parametrize(
    "plan",
    [
        ChunkPlan(input_samples=256, output_samples=256),
        ChunkPlan(input_samples=300, output_samples=200, output_offset=50, window="hann"),
        ChunkPlan(input_samples=256, output_samples=256, overlap=0.0, window="rectangular", tail="end"),
    ],
)
def test_networks_with_context_keep_the_contract(plan: ChunkPlan) -> None:
    session = FakeSession(network=context_network(trim=plan.output_offset))
    assert_keeps_contract(fake_manifest(plan=plan), session)
    assert not session.closed


def test_every_part_is_reported_and_shown_on_the_way() -> None:
    seen: list[str] = []
    session = FakeSession(network=context_network())
    report = check_contract(NORMALISED, session, progress=seen.append)
    assert report.kept
    report.require()
    assert seen == ["manifest", "signature", "determinism", "batch", "length", "silence", "block"]
    assert [one.check for one in report.findings if one.outcome == "not tried"] == ["condition", "state"]
    assert sum(session.batches) <= 12


def test_a_session_for_single_windows_is_not_given_batches() -> None:
    found = outcomes(context_network(), batch_limit=1)
    assert found["batch"] == "not tried"
    assert found["block"] == "kept"


def test_a_wrong_number_of_stems_or_samples_breaks_the_signature() -> None:
    assert outcomes(gains_network((1, 1, 1)))["signature"] == "broken"
    found = outcomes(lambda windows: gains_network()(windows)[..., :-1])
    assert found["signature"] == "broken"
    assert found["block"] == "not tried"


def test_stems_that_are_not_finite_break_the_signature() -> None:
    assert outcomes(lambda windows: gains_network()(windows) * np.float32(np.nan))["signature"] == "broken"


def test_stems_that_are_always_silent_break_the_signature() -> None:
    assert outcomes(lambda windows: gains_network()(windows) * np.float32(0))["signature"] == "broken"


def test_chance_breaks_determinism() -> None:
    generator = np.random.default_rng(0)

    def network(windows: FloatArray) -> FloatArray:
        return gains_network()(windows) * np.float32(generator.uniform(0.9, 1.1))

    assert outcomes(network)["determinism"] == "broken"


def test_windows_that_hear_each_other_break_batches() -> None:
    def network(windows: FloatArray) -> FloatArray:
        return gains_network()(windows + windows.mean(axis=0, keepdims=True))

    assert outcomes(network)["batch"] == "broken"


def test_a_graph_for_one_window_that_says_dynamic_breaks_batches() -> None:
    assert outcomes(lambda windows: gains_network()(windows[:1]))["batch"] == "broken"


def test_a_network_that_cannot_do_with_one_sample_breaks_the_length() -> None:
    def network(windows: FloatArray) -> FloatArray:
        if np.count_nonzero(windows[0, 0]) <= 1:
            raise InternalError("the runtime failed", "")
        return gains_network()(windows)

    assert outcomes(network)["length"] == "broken"


def test_stems_that_change_with_the_blocks_that_are_read_break_the_contract() -> None:
    """Nothing but the separator could do that; the network here changes after the other checks."""
    calls = 0

    def network(windows: FloatArray) -> FloatArray:
        nonlocal calls
        calls += 1
        return gains_network()(windows) * np.float32(1.0 if calls <= 6 else 1.001)

    found = outcomes(network)
    assert found["length"] == "kept"
    assert found["block"] == "broken"


def test_a_broken_contract_is_a_fault_of_the_model_file() -> None:
    class Halving(Meddling):
        def change(self, array: FloatArray) -> FloatArray:
            return array[:, :2]

    report = check_contract(NORMALISED, Halving(FakeSession(network=gains_network())))
    assert not report.kept
    with pytest.raises(ModelFileError, match=r"fake breaks the model contract \(signature\)"):
        report.require()


# --- the other kinds of models ------------------------------------------------------------------


class Deaf(AskedSession):
    """Takes a condition and does not heed it."""

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        return super().run({**inputs, "query": np.ones_like(inputs["query"])})


class Forgetful(RememberingSession):
    """Hands on the state it was given."""

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        return {**super().run(inputs), "memory.out": inputs["memory.in"]}


class Coarse(RememberingSession):
    """Hands on a state of another type."""

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        outputs = super().run(inputs)
        return {**outputs, "memory.out": outputs["memory.out"].astype(np.float32)}


def asked(kind: type[FakeSession]) -> FakeSession:
    return kind(network=gains_network(), graph=ASKED_GRAPH)


def stateful(kind: type[FakeSession]) -> FakeSession:
    return kind(network=gains_network(), graph=STATE_GRAPH)


def test_a_model_that_is_asked_keeps_the_contract() -> None:
    assert_keeps_contract(asked_manifest(), asked(AskedSession))


def test_a_model_that_does_not_heed_what_it_is_asked_breaks_it() -> None:
    report = check_contract(asked_manifest(), asked(Deaf))
    assert [one.check for one in report.findings if one.outcome == "broken"] == ["condition"]


@pytest.mark.parametrize("kind", ["fixed", "variable"])
def test_a_model_with_a_state_keeps_the_contract(kind: str) -> None:
    manifest = remembering_manifest(60, kind=kind)
    assert_keeps_contract(manifest, stateful(RememberingSession))
    report = check_contract(manifest, stateful(RememberingSession))
    tried = {one.check: one.outcome for one in report.findings}
    assert tried["state"] == ("kept" if kind == "variable" else "not tried")
    assert tried["condition"] == "not tried"


@pytest.mark.parametrize(("session", "broken"), [(Forgetful, "state"), (Coarse, "signature")])
def test_a_state_that_is_not_handed_on_breaks_it(session: type[FakeSession], broken: str) -> None:
    report = check_contract(remembering_manifest(60, kind="variable"), stateful(session))
    assert [one.check for one in report.findings if one.outcome == "broken"] == [broken]


@pytest.mark.parametrize(
    "changes",
    [
        {"stem_kind": "interchangeable"},
        {"scale_fit": {}},
        {"remainder": "vocals"},
        {"plan": {"input_samples": 256, "output_samples": 256, "time": "variable", "multiple": 8}},
    ],
)
def test_other_kinds_keep_the_contract(changes: dict[str, object]) -> None:
    manifest = Manifest.model_validate({**fake_manifest().model_dump(), **changes})
    assert_keeps_contract(manifest, FakeSession(network=context_network()))


def test_a_graph_may_leave_its_remainder_out() -> None:
    manifest = Manifest.model_validate({**fake_manifest().model_dump(), "remainder": "vocals"})
    assert_keeps_contract(manifest, FakeSession(network=context_network(context_kernels(3))))
    assert not check_contract(manifest, FakeSession(network=gains_network((1, 1)))).kept


def test_a_network_that_takes_long_is_tried_with_two_windows() -> None:
    session = FakeSession(network=context_network(), before=lambda call: time.sleep(0.2 if call == 1 else 0))
    report = check_contract(NORMALISED, session, budget_s=0.1)
    assert session.batches == [1, 1]
    outcomes = {one.check: one.outcome for one in report.findings}
    assert {name for name, outcome in outcomes.items() if outcome == "kept"} == {
        "manifest",
        "signature",
        "determinism",
        "silence",
    }
    assert "a window takes 0.2 s, the check about 1 s" in {one.reason for one in report.findings}
    assert report.kept
