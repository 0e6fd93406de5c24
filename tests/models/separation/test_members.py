from pathlib import Path

import numpy as np
import pytest

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InternalError, ModelFileError, OptionError, OutOfMemoryError
from stemwright.models.manifest import (
    MANIFEST_FILE,
    AudioFormat,
    Bag,
    BagMember,
    ChunkPlan,
    Licence,
)
from stemwright.models.registry.store import ModelStore
from stemwright.models.separation.choosing import open_members
from stemwright.models.separation.members import Member
from stemwright.models.sessions.opening import SessionOptions
from tests.support.fake_sessions import (
    STEMS,
    FakeSession,
    fake_manifest,
    fake_member,
    gains_network,
    noise,
)
from tests.support.tiny_models import install_tiny_model


def options(folder: Path) -> SessionOptions:
    return SessionOptions(cache_dir=folder / "cache", device="cpu")


def install_bag(folder: Path, weights: dict[str, tuple[float, ...]], stems: tuple[str, ...] = STEMS) -> None:
    bag = Bag(
        name="bag",
        family="test",
        licence=Licence(name="CC0-1.0", text="Free to use"),
        stems=stems,
        audio=AudioFormat(sample_rate=44100, channels=2),
        members=tuple(BagMember(model=name, weights=row) for name, row in weights.items()),
    )
    (folder / "bag").mkdir()
    (folder / "bag" / MANIFEST_FILE).write_text(bag.model_dump_json())


def gains_of(members: tuple[Member, ...]) -> dict[str, dict[str, float]]:
    return {member.name: dict(member.gains) for member in members}


def test_equal_weights_are_an_average(tmp_path: Path) -> None:
    install_tiny_model(tmp_path, "a")
    install_tiny_model(tmp_path, "b")
    members, stems = open_members(["a", "b"], None, ModelStore(tmp_path), options(tmp_path))
    assert stems == STEMS
    assert gains_of(members) == {name: dict.fromkeys(STEMS, 0.5) for name in ("a", "b")}


def test_a_bag_weighs_its_members_by_stem(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        install_tiny_model(tmp_path, name)
    install_bag(tmp_path, {"a": (1, 1, 0, 2), "b": (1, 0, 3, 2)})
    members, _ = open_members(["bag", "c"], [3, 1], ModelStore(tmp_path), options(tmp_path))
    assert gains_of(members) == {
        "a": {"drums": 0.375, "bass": 0.75, "vocals": 0.375},
        "b": {"drums": 0.375, "other": 0.75, "vocals": 0.375},
        "c": dict.fromkeys(STEMS, 0.25),
    }


def test_a_model_named_twice_runs_once(tmp_path: Path) -> None:
    install_tiny_model(tmp_path, "a")
    install_tiny_model(tmp_path, "b")
    install_bag(tmp_path, {"a": (1, 1, 1, 1)})
    members, _ = open_members(["a", "bag", "b"], [1, 1, 2], ModelStore(tmp_path), options(tmp_path))
    assert gains_of(members) == {name: dict.fromkeys(STEMS, 0.5) for name in ("a", "b")}


def test_only_common_stems_are_averaged(tmp_path: Path) -> None:
    install_tiny_model(tmp_path, "a")
    install_tiny_model(tmp_path, "b", stems=("vocals", "piano", "bass"), gains=(1, 1, 1))
    members, stems = open_members(["a", "b"], None, ModelStore(tmp_path), options(tmp_path))
    assert stems == ("bass", "vocals")
    assert gains_of(members)["b"] == {"bass": 0.5, "vocals": 0.5}


def test_models_without_a_common_stem_are_refused(tmp_path: Path) -> None:
    install_tiny_model(tmp_path, "a")
    install_tiny_model(tmp_path, "b", stems=("speech",), gains=(1,))
    with pytest.raises(OptionError, match="a and b have no stem in common"):
        open_members(["a", "b"], None, ModelStore(tmp_path), options(tmp_path))


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]])
def test_weights_that_make_no_average_are_refused(tmp_path: Path, weights: list[float]) -> None:
    with pytest.raises(OptionError, match="weights"):
        open_members(["a", "b"], weights, ModelStore(tmp_path), options(tmp_path))


def test_no_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no model"):
        open_members([], None, ModelStore(tmp_path), options(tmp_path))


def test_the_session_is_opened_when_it_is_needed_and_stays_open() -> None:
    opened: list[FakeSession] = []

    def opener() -> FakeSession:
        opened.append(FakeSession(network=gains_network()))
        return opened[-1]

    member = Member(name="m", manifest=fake_manifest(), gains={"bass": 1.0}, opener=opener)
    assert member.facts is None
    assert member.session is member.session
    assert len(opened) == 1
    member.close()
    member.close()
    assert opened[0].closed
    assert member.facts is None


def test_gains_for_a_stem_the_model_has_not_are_refused() -> None:
    with pytest.raises(ValueError, match="fake has no stem piano"):
        fake_member(FakeSession(network=gains_network()), gains={"piano": 1.0})


@pytest.mark.parametrize(("wanted", "given"), [(None, 4), (1, 1), (3, 3), (9, 4)])
def test_batches_are_within_what_the_session_allows(wanted: int | None, given: int) -> None:
    assert fake_member(FakeSession(network=gains_network())).batch_size(wanted) == given


def test_a_graph_for_single_windows_gets_them_one_by_one() -> None:
    session = FakeSession(network=gains_network())
    session.graph = session.graph.model_copy(update={"batch": "one"})
    assert fake_member(session).batch_size(None) == 1


@pytest.mark.parametrize(
    ("memory", "batches", "left"),
    [(8, [8], 8), (4, [8, 4, 4], 4), (3, [8, 4, 2, 2, 2, 2], 2), (1, [8, 4, 2] + [1] * 8, 1)],
)
def test_a_batch_that_does_not_fit_is_halved(memory: int, batches: list[int], left: int) -> None:
    session = FakeSession(network=gains_network(), memory=memory, batch_limit=8)
    member = fake_member(session)
    windows = np.stack([noise(2, 256, seed=seed) for seed in range(8)])
    outputs = member.run(member.prepare(windows).arrays)
    np.testing.assert_array_equal(outputs["stems"], gains_network()(windows))
    assert session.batches == batches
    assert member.batch_size(None) == left
    assert member.facts is not None
    assert member.facts.batch_limit == left


def test_a_single_window_that_does_not_fit_is_an_error() -> None:
    member = fake_member(FakeSession(network=gains_network(), memory=0))
    with pytest.raises(OutOfMemoryError):
        member.run(member.prepare(noise(2, 256)[None]).arrays)


def recover(network: object, stems: tuple[int, ...] = (0, 1, 2, 3), **manifest: object) -> FloatArray:
    session = FakeSession(network=network)  # type: ignore[arg-type]
    member = fake_member(session, fake_manifest(**manifest))  # type: ignore[arg-type]
    inputs = member.prepare(noise(2, 256)[None])
    return member.recover(member.run(inputs.arrays), inputs.spectrum, stems)


def test_only_the_stems_in_use_are_recovered() -> None:
    np.testing.assert_array_equal(recover(gains_network(), (3, 0)), recover(gains_network())[:, [3, 0]])


def test_outputs_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ModelFileError, match="not 4 stems"):
        recover(lambda windows: windows[:, None].repeat(3, axis=1))
    with pytest.raises(ModelFileError, match="its manifest says"):
        recover(lambda windows: gains_network()(windows)[..., :-1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_never_handed_on(bad: float) -> None:
    def network(windows: FloatArray) -> FloatArray:
        stems = gains_network()(windows)
        stems[0, 1, 0, 17] = bad
        return stems

    with pytest.raises(InternalError, match="not finite"):
        recover(network)


def test_the_output_window_is_cut_from_what_covers_the_whole_input() -> None:
    plan = ChunkPlan(input_samples=256, output_samples=200, output_offset=30)
    found = recover(gains_network(), plan=plan)
    np.testing.assert_array_equal(found, recover(gains_network())[..., 30:230])
