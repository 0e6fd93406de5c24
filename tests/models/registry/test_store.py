"""The store of installed models: finding, checking, installing and removing."""

import hashlib
import json
from pathlib import Path

import onnx
import pytest

from stemwright.core.errors import ModelFileError, ModelNotFoundError, OptionError
from stemwright.models.manifest import MANIFEST_FILE, AudioFormat, Bag, BagMember, Licence, read_manifest
from stemwright.models.registry import staging
from stemwright.models.registry.model_files import MANIFEST_KEY, file_sha256
from stemwright.models.registry.store import (
    InstalledBag,
    InstalledModel,
    ModelStore,
    default_models_dir,
    open_model,
)
from tests.support.tiny_models import STEMS, install_tiny_model

FREE = Licence(name="CC0-1.0", text="Free to use")


def edit_manifest(folder: Path, **fields: object) -> None:
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def install_bag(root: Path, name: str, members: tuple[str, ...], stems: tuple[str, ...] = STEMS) -> Path:
    bag = Bag(
        name=name,
        family="test",
        licence=FREE,
        stems=stems,
        audio=AudioFormat(sample_rate=44100, channels=2),
        members=tuple(BagMember(model=member, weights=(1.0,) * len(stems)) for member in members),
    )
    folder = root / name
    folder.mkdir(parents=True)
    (folder / MANIFEST_FILE).write_text(bag.model_dump_json())
    return folder


def single_file(folder: Path, target: Path) -> Path:
    model = onnx.load(str(folder / "model.onnx"))
    entry = model.metadata_props.add()
    entry.key, entry.value = MANIFEST_KEY, (folder / MANIFEST_FILE).read_text()
    onnx.save(model, str(target))
    return target


def test_find_gives_graph_manifest_and_hash(tmp_path: Path) -> None:
    folder = install_tiny_model(tmp_path)
    model = ModelStore(tmp_path).find("tiny")
    assert isinstance(model, InstalledModel)
    assert (model.name, model.folder, model.graph_path) == ("tiny", folder, folder / "model.onnx")
    assert model.manifest == read_manifest(folder)
    assert model.sha256 == file_sha256(folder / "model.onnx")


def test_root_from_environment_or_user_data(tmp_path: Path) -> None:
    assert default_models_dir({"STEMWRIGHT_MODELS": str(tmp_path)}) == tmp_path
    assert default_models_dir({}).name == "models"
    assert default_models_dir({}).is_absolute()


FIRST = ["convtasnet-2spk", "uss-lite"]
"""Models that come with the package and separate."""


def test_absent_root_is_an_empty_store(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "none")
    assert store.names() == ()
    assert [model.name for model in store.list()] == FIRST
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("htdemucs", "stemwright models pull htdemucs`"),
        ("htdemux", "htdemucs (`stemwright models pull htdemucs`)"),
        ("tiney", "did you mean tiny"),
        ("zzzzzz", "models list"),
        ("../tiny", "did you mean tiny"),
        (".locks", "models list"),
        ("", "models list"),
    ],
)
def test_unknown_name_leads_on(tmp_path: Path, asked: str, hint: str) -> None:
    install_tiny_model(tmp_path)
    with pytest.raises(ModelNotFoundError) as caught:
        ModelStore(tmp_path).find(asked)
    assert hint in caught.value.remedy


def test_list_leaves_out_the_damaged_and_entries_tell_why(tmp_path: Path) -> None:
    install_tiny_model(tmp_path, "good")
    (install_tiny_model(tmp_path, "bad") / "model.onnx").write_bytes(b"short")
    (tmp_path / ".downloads").mkdir()
    store = ModelStore(tmp_path)
    assert [model.name for model in store.list()] == ["good", *FIRST]
    problems = {entry.name: entry.problem for entry in store.entries()}
    assert problems["good"] is None
    assert problems["bad"] is not None and "damaged" in problems["bad"].message


def test_size_is_checked_at_opening_and_hash_at_verify(tmp_path: Path) -> None:
    graph = install_tiny_model(tmp_path, "htdemucs") / "model.onnx"
    data = bytearray(graph.read_bytes())
    data[-1] ^= 1
    graph.write_bytes(data)
    store = ModelStore(tmp_path)
    store.find("htdemucs")
    with pytest.raises(ModelFileError, match="SHA-256 differs") as caught:
        store.verify("htdemucs")
    assert "stemwright models pull htdemucs --force" in caught.value.remedy
    graph.write_bytes(data[:-1])
    with pytest.raises(ModelFileError, match="damaged"):
        store.find("htdemucs")
    graph.unlink()
    with pytest.raises(ModelFileError, match="missing"):
        store.find("htdemucs")


def test_newer_manifest_asks_for_an_update(tmp_path: Path) -> None:
    edit_manifest(install_tiny_model(tmp_path), schema_version=2)
    with pytest.raises(ModelFileError, match="schema 2") as caught:
        ModelStore(tmp_path).find("tiny")
    assert caught.value.remedy == "update stemwright"


@pytest.mark.parametrize("path", ["../other", "/etc/passwd", "a/../../x", "..", "", "a\\..\\b", "link"])
def test_records_outside_the_folder_are_refused(tmp_path: Path, path: str) -> None:
    folder = install_tiny_model(tmp_path)
    (folder / "link").symlink_to("/etc/hostname")
    records = [*json.loads((folder / MANIFEST_FILE).read_text())["files"]]
    edit_manifest(folder, files=[*records, {"path": path, "sha256": "0" * 64, "size": 1}])
    with pytest.raises(ModelFileError, match="outside"):
        ModelStore(tmp_path).find("tiny")


def test_manifest_without_graph_record_is_refused(tmp_path: Path) -> None:
    edit_manifest(install_tiny_model(tmp_path), files=[])
    with pytest.raises(ModelFileError, match="no record of"):
        ModelStore(tmp_path).find("tiny")


def test_folder_must_bear_the_models_name(tmp_path: Path) -> None:
    install_tiny_model(tmp_path).rename(tmp_path / "other")
    with pytest.raises(ModelFileError, match="named tiny"):
        ModelStore(tmp_path).find("other")


def test_bag_opens_its_members(tmp_path: Path) -> None:
    install_tiny_model(tmp_path, "mix.a")
    install_tiny_model(tmp_path, "mix.b", gains=(0.1, 0.1, 0.1, 0.1))
    install_bag(tmp_path, "mix", ("mix.a", "mix.b"))
    bag = ModelStore(tmp_path).verify("mix")
    assert isinstance(bag, InstalledBag)
    assert [member.model.name for member in bag.members] == ["mix.a", "mix.b"]
    assert bag.members[0].weights == (1.0,) * 4
    lines = "".join(f"{member.model.sha256} [1.0, 1.0, 1.0, 1.0]\n" for member in bag.members)
    assert bag.sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_bag_with_a_missing_or_unfit_member_is_refused(tmp_path: Path) -> None:
    install_tiny_model(tmp_path, "a")
    install_bag(tmp_path, "gone", ("a", "nowhere"))
    install_bag(tmp_path, "unfit", ("a",), stems=("drums", "piano"))
    install_bag(tmp_path, "good", ("a",))
    install_bag(tmp_path, "nested", ("good",))
    store = ModelStore(tmp_path)
    with pytest.raises(ModelFileError, match="needs the model nowhere"):
        store.find("gone")
    with pytest.raises(ModelFileError, match="the stem piano"):
        store.find("unfit")
    with pytest.raises(ModelFileError, match="as a member"):
        store.find("nested")


def test_open_model_takes_names_folders_and_single_files(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    install_tiny_model(store.root, "inside")
    outside = install_tiny_model(tmp_path / "elsewhere")
    alone = single_file(outside, tmp_path / "alone.onnx")
    assert open_model("inside", store).name == "inside"
    assert open_model(outside, store).name == "tiny"
    assert open_model(str(outside), store).name == "tiny"
    found = open_model(str(alone), store)
    assert isinstance(found, InstalledModel)
    assert (found.graph_path, found.sha256) == (alone, file_sha256(alone))
    assert found.manifest.files[0].sha256 == found.sha256


def test_open_model_takes_a_folder_here_but_a_name_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ModelStore(tmp_path / "store")
    install_tiny_model(store.root, "both")
    install_tiny_model(tmp_path / "here", "both")
    install_tiny_model(tmp_path / "here", "mine")
    monkeypatch.chdir(tmp_path / "here")
    assert open_model("both", store).folder == store.root / "both"
    assert open_model("mine", store).folder == Path("mine")


@pytest.mark.parametrize("name", ["no/where", "none.onnx"])
def test_open_model_reports_a_path_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="no model at"):
        open_model(name, ModelStore(tmp_path))


def test_single_file_without_manifest_or_without_sense_is_refused(tmp_path: Path) -> None:
    folder = install_tiny_model(tmp_path)
    with pytest.raises(ModelFileError, match="carries no manifest"):
        open_model(folder / "model.onnx")
    noise = tmp_path / "noise.onnx"
    noise.write_bytes(b"\xff" * 64)
    with pytest.raises(ModelFileError, match="not an ONNX model"):
        open_model(noise)


def stage_and_install(store: ModelStore, source: Path, name: str) -> None:
    with staging.name_lock(store.root, name), staging.staged_folder(store.root, name) as folder:
        for path in source.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        store.install(folder)


def test_install_puts_a_checked_folder_in_place_and_replaces(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    stage_and_install(store, install_tiny_model(tmp_path / "one"), "tiny")
    first = store.verify("tiny")
    stage_and_install(store, install_tiny_model(tmp_path / "two", gains=(1, 1, 1, 1)), "tiny")
    assert store.verify("tiny").sha256 != first.sha256
    assert sorted(path.name for path in store.root.iterdir()) == [".locks", ".staging", "tiny"]
    assert not any((store.root / ".staging").iterdir())


def test_install_refuses_a_damaged_folder_and_leaves_nothing(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    source = install_tiny_model(tmp_path / "one")
    graph = source / "model.onnx"
    graph.write_bytes(graph.read_bytes()[::-1])
    with pytest.raises(ModelFileError, match="damaged"):
        stage_and_install(store, source, "tiny")
    assert store.names() == ()


@pytest.mark.parametrize("new_is_there", [False, True])
def test_a_replacement_killed_halfway_is_undone_or_finished(tmp_path: Path, new_is_there: bool) -> None:
    old = install_tiny_model(tmp_path / ".staging" / "tiny", "replaced")
    edit_manifest(old, name="tiny")
    if new_is_there:
        install_tiny_model(tmp_path, gains=(1, 1, 1, 1))
    (tmp_path / ".staging" / "tiny" / "tmpleft").mkdir()
    with staging.name_lock(tmp_path, "tiny"):
        assert not (tmp_path / ".staging" / "tiny").exists()
    gains = onnx.load(str(tmp_path / "tiny" / "model.onnx")).graph.initializer[0]
    assert onnx.numpy_helper.to_array(gains).ravel()[0] == pytest.approx(1.0 if new_is_there else 0.4)


def test_remove_takes_a_bag_with_its_own_members_only(tmp_path: Path) -> None:
    for name in ("mix.a", "mix.b", "shared"):
        install_tiny_model(tmp_path, name)
    install_bag(tmp_path, "mix", ("mix.a", "mix.b", "shared"))
    install_bag(tmp_path, "second", ("mix.b",))
    store = ModelStore(tmp_path)
    with pytest.raises(OptionError, match="member of mix"):
        store.remove("mix.a")
    assert store.remove("mix") == ("mix", "mix.a")
    assert store.names() == ("mix.b", "second", "shared")
    with pytest.raises(ModelNotFoundError):
        store.remove("mix")


def test_remove_clears_a_damaged_model(tmp_path: Path) -> None:
    (install_tiny_model(tmp_path) / MANIFEST_FILE).write_text("{")
    store = ModelStore(tmp_path)
    assert store.remove("tiny") == ("tiny",)
    assert store.names() == ()
