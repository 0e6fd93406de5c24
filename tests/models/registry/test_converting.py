"""Models stored otherwise: what is installed, what is measured, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from stemwright.core.errors import ModelFileError, OptionError, OutputError
from stemwright.models.checkpoints import Checkpoint
from stemwright.models.manifest import Manifest, Precision, StorageRecord
from stemwright.models.measuring import Comparison, compare_models, sdr, song_folders
from stemwright.models.registry import building, converting
from stemwright.models.registry.building import BuildOptions, build_from_checkpoint
from stemwright.models.registry.converting import Measure, convert_model
from stemwright.models.registry.family import Family
from stemwright.models.registry.model_files import finish_manifest
from stemwright.models.registry.store import InstalledModel, ModelStore, open_model
from stemwright.models.registry.terms import accept_all
from stemwright.models.sessions.precisions import choose_precision
from tests.support.tiny_models import GAINS, STEMS, install_tiny_model

RATE = 44_100


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    install_tiny_model(tmp_path / "store", "tiny")
    return ModelStore(tmp_path / "store")


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Two songs of which the tiny model gives every stem but for a known noise."""
    folder = tmp_path / "songs"
    source = np.random.default_rng(0)
    for name in ("one", "two"):
        place = folder / name
        place.mkdir(parents=True)
        mixture = (0.1 * source.standard_normal((2, RATE))).astype(np.float32)
        sf.write(place / "mixture.wav", mixture.T, RATE, subtype="FLOAT")
        for stem, gain in zip(STEMS, GAINS, strict=True):
            noise = (0.01 * source.standard_normal((2, RATE))).astype(np.float32)
            sf.write(place / f"{stem}.wav", (gain * mixture + noise).T, RATE, subtype="FLOAT")
    return folder


def manifest_of(model: Any) -> Manifest:
    assert isinstance(model, InstalledModel)
    return model.manifest


def test_what_it_cost_is_in_the_manifest(store: ModelStore, songs: Path) -> None:
    notes: list[str] = []
    measure = Measure(folder=songs, seconds=0.5, note=notes.append)
    made = convert_model(open_model("tiny", store), store, "small", "int8", measure=measure)
    record = manifest_of(made).storage
    assert record is not None
    assert (record.kind, record.measured_on) == ("int8", "2 songs, 0.5 s of each")
    assert record.sdr_change_db == pytest.approx(0, abs=1e-3)
    assert (manifest_of(made).name, manifest_of(made).parity) == ("small", None)
    assert notes[0] == "before: one"
    store.verify("small")
    assert manifest_of(open_model("tiny", store)).storage is None


def with_precisions(store: ModelStore) -> Any:
    """The tiny model as if two precisions had been measured with it."""
    records = [
        {"precision": "bfloat16", "provider": "openvino", "sdr_loss_db": 0.02},
        {"precision": "int8", "provider": "cpu", "sdr_loss_db": 0.027},
    ]
    finish_manifest(store.root / "tiny", safe_precisions=records)
    return open_model("tiny", store)


def precisions_of(model: Any) -> list[tuple[str, str, float]]:
    return [
        (record.precision, record.provider, record.sdr_loss_db)
        for record in manifest_of(model).safe_precisions
    ]


@pytest.mark.parametrize(("change", "added"), [(-0.046, 0.046), (0.3, 0.0)])
def test_what_precisions_cost_is_told_with_the_storages_loss(
    store: ModelStore, songs: Path, monkeypatch: pytest.MonkeyPatch, change: float, added: float
) -> None:
    """Their loss was measured on the weights before: what is told is against those, so both are in it."""
    key = ("one", "drums")
    compared = Comparison(before={key: 5.0}, after={key: 5.0 + change}, seconds=1.0)
    monkeypatch.setattr(converting, "compare_models", lambda *_, **__: compared)
    made = convert_model(with_precisions(store), store, "small", "int8", measure=Measure(folder=songs))
    assert precisions_of(made) == [
        ("bfloat16", "openvino", round(0.02 + added, 4)),
        ("int8", "cpu", round(0.027 + added, 4)),
    ]
    possible: frozenset[Precision] = frozenset({"float32", "bfloat16"})
    precision, why = choose_precision(manifest_of(made), "openvino", "auto", possible)
    assert (precision, f"{0.02 + added:.2f} dB" in why) == ("bfloat16", True)


def test_precisions_stay_only_with_a_measured_storage(store: ModelStore) -> None:
    tiny = with_precisions(store)
    assert precisions_of(convert_model(tiny, store, "small", "int8")) == []
    assert precisions_of(convert_model(tiny, store, "same", "float32")) == precisions_of(tiny)


def test_a_loss_is_seen(store: ModelStore, songs: Path, tmp_path: Path) -> None:
    """A stem that comes out 1 % too loud has an error of a hundredth besides the noise."""
    gains = (GAINS[0] * 1.01, *GAINS[1:])
    install_tiny_model(tmp_path / "store", "louder", gains=gains)
    compared = compare_models(open_model("tiny", store), open_model("louder", store), songs, seconds=10)
    noise, extra = 0.01**2, (0.1 * GAINS[0] * 0.01) ** 2
    for song in ("one", "two"):
        change = compared.changes[(song, STEMS[0])]
        assert change == pytest.approx(-10 * np.log10(1 + extra / noise), abs=0.01)
        assert compared.changes[(song, STEMS[1])] == pytest.approx(0, abs=1e-6)
    assert compared.worst == min(compared.changes.values())


def test_what_changes_nothing_is_not_recorded(store: ModelStore) -> None:
    made = convert_model(open_model("tiny", store), store, "same", "float32")
    assert manifest_of(made).storage is None


def test_refusals(store: ModelStore, tmp_path: Path) -> None:
    tiny = open_model("tiny", store)
    with pytest.raises(OutputError, match="is installed"):
        convert_model(tiny, store, "tiny", "int8")
    with pytest.raises(OptionError):
        convert_model(tiny, store, "../up", "int8")
    with pytest.raises(OptionError, match="no songs"):
        convert_model(tiny, store, "new", "int8", measure=Measure(folder=tmp_path))
    assert store.names() == ("tiny",)
    with pytest.raises(OptionError, match="no songs"):
        song_folders(tmp_path / "absent")


def test_sdr() -> None:
    true = np.ones((1, 100), np.float32)
    assert sdr(true, true * 0.9) == pytest.approx(20, abs=1e-4)


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> list[Checkpoint]:
    """A family of one tiny network; returns what was built of."""
    seen: list[Checkpoint] = []

    def build(checkpoint: Checkpoint, *, name: str, folder: Path, **_: Any) -> Manifest:
        seen.append(checkpoint)
        made = install_tiny_model(folder, name)
        for path in made.iterdir():
            path.rename(folder / path.name)
        made.rmdir()
        return finish_manifest(folder)

    one = Family(name="tiny", recognises=lambda _: True, architecture_of=lambda _: "tiny", build=build)
    monkeypatch.setattr(building, "family_named", lambda _: one)
    monkeypatch.setattr(building, "family_of", lambda _: one)
    tensors = {"a": np.zeros(3, np.float32)}
    monkeypatch.setattr(building, "read_checkpoint", lambda _: Checkpoint(tensors=tensors, kind="torch"))
    return seen


def test_a_checkpoint_with_its_configuration(
    store: ModelStore, family: list[Checkpoint], tmp_path: Path
) -> None:
    (tmp_path / "a.th").write_bytes(b"weights")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"klass": "demucs.hdemucs.HDemucs", "kwargs": {"channels": 48}}))
    options = BuildOptions(name="mine", config=config, storage="int8", like="hdemucs")
    made = build_from_checkpoint("tiny", tmp_path / "a.th", store, ask=accept_all, options=options)
    assert (family[0].klass, family[0].kwargs, family[0].like) == (
        "demucs.hdemucs.HDemucs", {"channels": 48}, "hdemucs"
    )  # fmt: skip
    assert manifest_of(made).storage == StorageRecord(kind="int8")
    with pytest.raises(OutputError, match="is installed"):
        build_from_checkpoint("tiny", tmp_path / "a.th", store, ask=accept_all, options=options)


@pytest.mark.parametrize("text", ["{", "[1]", '{"channels": 48}', '{"klass": 3}'])
def test_configurations_that_are_none(
    store: ModelStore, family: list[Checkpoint], tmp_path: Path, text: str
) -> None:
    (tmp_path / "a.th").write_bytes(b"weights")
    (tmp_path / "config.json").write_text(text)
    options = BuildOptions(name="mine", config=tmp_path / "config.json")
    with pytest.raises(OptionError, match="config"):
        build_from_checkpoint("tiny", tmp_path / "a.th", store, ask=accept_all, options=options)
    assert family == []


def test_a_checkpoint_of_another_family(
    store: ModelStore, family: list[Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Family(
        name="other",
        recognises=lambda _: True,
        architecture_of=lambda _: "other",
        build=lambda *_, **__: None,  # type: ignore[arg-type]
    )
    monkeypatch.setattr(building, "family_of", lambda _: other)
    with pytest.raises(ModelFileError, match="of other, not of tiny"):
        build_from_checkpoint(
            "tiny", tmp_path / "a.th", store, ask=accept_all, options=BuildOptions(name="mine")
        )
