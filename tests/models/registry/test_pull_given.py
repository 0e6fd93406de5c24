"""Pulling from a file, folder or address that the user gives, and pulling bags."""

import dataclasses
from pathlib import Path

import pytest

from stemwright.core.errors import (
    ModelFileError,
    OptionError,
    SourceUnavailableError,
)
from stemwright.models.registry.catalog import (
    HTDEMUCS_FT,
    CatalogBag,
    CatalogEntry,
)
from stemwright.models.registry.sources import SourceSettings
from stemwright.models.registry.store import InstalledBag, ModelStore
from tests.models.registry.test_store import single_file
from tests.support.model_host import Hosted, ModelHost
from tests.support.tiny_models import install_tiny_model
from tests.support.tiny_workshop import (
    GOOD,
    OTHER,
    assert_clean,
    checkpoint,
    entry_of,
    manifest_of,
    run_pull,
    sha256,
)


@pytest.mark.parametrize("kind", ["file", "folder", "url"])
def test_from_a_file_a_folder_or_an_address(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry], kind: str
) -> None:
    catalog["htdemucs"] = entry_of(host)
    place = tmp_path / "given"
    place.mkdir()
    (place / "955717e8.safetensors").write_bytes(GOOD)
    given = {
        "file": str(place / "955717e8.safetensors"),
        "folder": str(place),
        "url": host.serve("/elsewhere/x.th", Hosted(GOOD)),
    }[kind]
    manifest = manifest_of(run_pull(ModelStore(tmp_path / "store"), given=given))
    assert manifest.origin.source.startswith(given)
    assert (place / "955717e8.safetensors").exists()


def test_from_a_renamed_official_file_is_known_by_its_hash(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    catalog["htdemucs"] = dataclasses.replace(entry_of(host), content_sha256="")
    (tmp_path / "my copy.bin").write_bytes(GOOD)
    model = run_pull(ModelStore(tmp_path / "store"), given=str(tmp_path / "my copy.bin"))
    assert "begins as the published name" in manifest_of(model).origin.verified_by


def test_from_unknown_weights_is_refused(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    catalog["htdemucs"] = entry_of(host)
    (tmp_path / "x.th").write_bytes(OTHER)
    store = ModelStore(tmp_path / "store")
    with pytest.raises(ModelFileError, match="not known to be htdemucs") as caught:
        run_pull(store, given=str(tmp_path / "x.th"))
    assert "models import" in caught.value.remedy
    assert (tmp_path / "x.th").exists()
    with pytest.raises(ModelFileError, match="does not exist"):
        run_pull(store, given=str(tmp_path / "none.th"))
    with pytest.raises(ModelFileError, match="no checkpoint of htdemucs"):
        run_pull(store, given=str(tmp_path / "store"))
    assert_clean(store)


@pytest.mark.parametrize("form", ["folder", "single file"])
def test_from_a_complete_model(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry], form: str
) -> None:
    catalog["htdemucs"] = entry_of(host)
    folder = install_tiny_model(tmp_path / "made")
    given = folder if form == "folder" else single_file(folder, tmp_path / "one.onnx")
    store = ModelStore(tmp_path / "store")
    assert manifest_of(run_pull(store, given=str(given))).name == "htdemucs"
    store.verify("htdemucs")
    assert_clean(store, "htdemucs")


def test_the_file_to_fetch_by_hand_is_one_that_will_be_known(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    catalog["htdemucs"] = entry = dataclasses.replace(entry_of(host), content_sha256="")
    store, offline = ModelStore(tmp_path), SourceSettings(offline=True)
    with pytest.raises(SourceUnavailableError) as caught:
        run_pull(store, settings=offline)
    name = entry.sources[1].file_name
    assert name.endswith(".th") and f"place {name} at" in caught.value.remedy
    assert "safetensors" not in caught.value.remedy
    place = store.downloads("htdemucs")
    place.mkdir(parents=True)
    (place / name).write_bytes(GOOD)
    assert run_pull(store, settings=offline).name == "htdemucs"


# Bags


def bag_of(host: ModelHost, contents: dict[str, bytes]) -> CatalogBag:
    members = tuple(
        dataclasses.replace(
            member,
            model=dataclasses.replace(
                entry_of(host, member.model.name, contents[member.model.signature]),
                signature=member.model.signature,
            ),
        )
        for member in HTDEMUCS_FT.members
    )
    return dataclasses.replace(HTDEMUCS_FT, members=members)


def test_a_bag_is_pulled_with_all_its_members(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    contents = {m.model.signature: checkpoint(i / 10) for i, m in enumerate(HTDEMUCS_FT.members, 1)}
    catalog["htdemucs_ft"] = bag = bag_of(host, contents)
    for member in bag.members:
        host.serve(f"/{member.model.name}/s.safetensors", Hosted(contents[member.model.signature]))
    store = ModelStore(tmp_path)
    model = run_pull(store, name="htdemucs_ft")
    assert isinstance(model, InstalledBag)
    names = ("htdemucs_ft.drums", "htdemucs_ft.bass", "htdemucs_ft.other", "htdemucs_ft.vocals")
    assert tuple(member.model.name for member in model.members) == names
    assert model.members[3].weights == (0.0, 0.0, 0.0, 1.0)
    assert len({member.model.sha256 for member in model.members}) == 4
    assert_clean(store, "htdemucs_ft", *names)
    run_pull(store, name="htdemucs_ft")
    assert len(host.requests) == 4


def test_a_bag_that_broke_off_keeps_its_finished_members(
    host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]
) -> None:
    contents = {m.model.signature: GOOD for m in HTDEMUCS_FT.members}
    catalog["htdemucs_ft"] = bag_of(host, contents)
    host.serve("/htdemucs_ft.drums/s.safetensors", Hosted(GOOD))
    store = ModelStore(tmp_path)
    with pytest.raises(SourceUnavailableError, match=r"htdemucs_ft\.bass") as caught:
        run_pull(store, name="htdemucs_ft")
    assert "pull htdemucs_ft --from FOLDER" in caught.value.remedy
    assert_clean(store, "htdemucs_ft.drums")


def test_a_bag_from_a_folder(host: ModelHost, tmp_path: Path, catalog: dict[str, CatalogEntry]) -> None:
    contents = {m.model.signature: checkpoint(i / 10) for i, m in enumerate(HTDEMUCS_FT.members, 1)}
    catalog["htdemucs_ft"] = bag_of(host, contents)
    place = tmp_path / "given"
    place.mkdir()
    for signature, data in contents.items():
        (place / f"{signature}-{sha256(data)[:8]}.th").write_bytes(data)
    store = ModelStore(tmp_path / "store")
    assert isinstance(run_pull(store, name="htdemucs_ft", given=str(place)), InstalledBag)
    with pytest.raises(OptionError, match="bag of 4 models"):
        run_pull(store, name="htdemucs_ft", given=str(place / "f7e0c4bc.th"), force=True)
