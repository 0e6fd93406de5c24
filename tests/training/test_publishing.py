"""From a run to a model that the command line separates with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from stemwright.core.audio.source import open_source
from stemwright.core.errors import InputError, ModelFileError, OptionError, OutputError
from stemwright.models.registry.store import InstalledModel, ModelStore, open_model
from stemwright.models.separation.separator import Separator
from stemwright.service.cli.main import run as command
from stemwright.training.loop import train
from stemwright.training.plotting import curves, plot_run
from stemwright.training.publishing import PublishOptions, publish
from stemwright.training.run_folder import RunFolder
from tests.support import data_folders
from tests.support.training_runs import small_config, tone_sources

TERMS = {
    "licence_name": "CC BY 4.0",
    "licence_text": "Name the makers.",
    "training_data": "tones, made here",
    "scores_command": "stemwright eval run tones",
    "experimental": True,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "tones"
    config = small_config("conv_tasnet", publish=TERMS, loop={"validate_every": 3})
    train(config, run, sources=tone_sources(config))
    return run


@pytest.mark.slow
@pytest.mark.parametrize(("storage", "allowed_db"), [("float32", -60), ("float16", -40), ("int8", -15)])
def test_a_run_becomes_a_model(storage: Any, allowed_db: float, finished: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    notes: list[str] = []
    options = PublishOptions(name="tones", storage=storage, note=notes.append)
    publish(finished, store, options)
    model = store.find("tones")
    assert isinstance(model, InstalledModel)
    manifest = model.manifest
    assert manifest.licence.name == "CC BY 4.0"
    assert manifest.training_data == "tones, made here"
    assert (manifest.storage and manifest.storage.kind) == (None if storage == "float32" else storage)
    assert manifest.parity is not None and manifest.parity.max_error_db < allowed_db
    record = manifest.training
    assert record is not None and record.experimental
    assert record.scores_command == "stemwright eval run tones"
    assert json.loads(record.config)["model"]["family"] == "conv_tasnet"
    best = max(row["score"] for row in RunFolder(finished).rows() if row["kind"] == "network")
    assert record.validation["score"] == pytest.approx(best, abs=1e-3)
    assert record.steps in (3, 6)
    assert len(record.commit) in (0, 40)  # none where the tests run outside a checkout
    assert notes[0].startswith("exporting")


@pytest.mark.slow
def test_commands_train_publish_and_separate_with_no_glue(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STEMWRIGHT_MODELS", str(tmp_path / "models"))
    assert command(["train", "publish", str(finished), "--name", "tones"]) == 0
    assert command(["train", "publish", str(finished), "--name", "tones"]) == 2
    assert "is installed" in capsys.readouterr().err
    samples = np.random.default_rng(0).standard_normal((20_000, 2)) * 0.1
    soundfile.write(tmp_path / "meeting.wav", samples, 16_000)
    wanted = ["separate", str(tmp_path / "meeting.wav"), "-m", "tones", "-o", str(tmp_path / "out")]
    assert command(wanted) == 0
    stems = sorted(tmp_path.glob("out/**/speaker*.wav"))
    assert len(stems) == 2
    assert soundfile.info(str(stems[0])).frames == 20_000
    model = open_model("tones", ModelStore(tmp_path / "models"))
    with Separator.open(model) as separator, open_source(tmp_path / "meeting.wav") as source:
        with separator.separate(source) as separation:
            assert sum(next(iter(block.stems.values())).shape[1] for block in separation) == 20_000


_CONFIG = """
name = "voices"
[model]
family = "conv_tasnet"
sizes = { filters = 16, bottleneck = 8, hidden = 16, skip = 8, blocks = 2, repeats = 1 }
[data]
segment_s = 0.5
[data.train]
kind = "speech"
path = "DATA"
hold_out = 0.5
[data.valid]
kind = "speech"
path = "DATA"
hold_out = 0.5
part = "held_out"
[optimiser]
lr = 1e-3
[loop]
steps = 4
batch = 2
precision = "float32"
workers = 0
validate_every = 2
validate_items = 2
serve_every = 2
serve_items = 1
"""


@pytest.mark.slow
def test_a_folder_of_speech_becomes_a_run_that_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    speech = data_folders.speech(tmp_path / "data", speakers=8)
    config = tmp_path / "voices.toml"
    config.write_text(_CONFIG.replace("DATA", str(speech)))
    run = tmp_path / "run"
    assert command(["train", "run", str(config), "-o", str(run), "--set", "loop.steps=2"]) == 0
    assert capsys.readouterr().out == f"{run}\n"
    assert command(["train", "run", str(config), "-o", str(run)]) == 2
    assert "there is a run in" in capsys.readouterr().err
    other = ["train", "run", str(config), "-o", str(tmp_path / "other")]
    assert command([*other, "--from", str(run / "checkpoints" / "best.pt")]) == 0
    assert command(["train", "resume", str(run)]) == 0
    rows = RunFolder(tmp_path / "other").rows()
    scores = {row["kind"]: row["score"] for row in rows if row["step"] == 4 and "score" in row}
    assert scores.keys() == {"network", "engine"}


def test_publishing_refuses_what_is_no_finished_run(finished: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    with pytest.raises(InputError, match="holds no run"):
        publish(tmp_path, store, PublishOptions(name="x"))
    with pytest.raises(OptionError):
        publish(finished, store, PublishOptions(name="../x"))
    config = small_config("conv_tasnet")
    RunFolder(tmp_path / "new").open(config, 0, resume=False, writes=True)
    with pytest.raises(ModelFileError, match="has no checkpoint"):
        publish(tmp_path / "new", store, PublishOptions(name="x"))
    (store.root / "taken").mkdir(parents=True)
    with pytest.raises(OutputError, match="is installed"):
        publish(finished, store, PublishOptions(name="taken"))


def test_curves_are_drawn(finished: Path, tmp_path: Path) -> None:
    picture = plot_run(finished, tmp_path / "x.svg")
    assert "learning rate" in picture.read_text() or picture.stat().st_size > 1000
    steps, losses = curves(RunFolder(finished).rows(), "train")["loss"]
    assert steps == [2, 4, 6]
    assert all(isinstance(loss, float) for loss in losses)
    with pytest.raises(OptionError, match="no known kind of picture"):
        plot_run(finished, tmp_path / "x.gif")
    with pytest.raises(InputError, match="has logged nothing"):
        plot_run(tmp_path, tmp_path / "x.png")


def test_mistakes_of_the_command_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.toml").write_text(
        'name = "a"\n[optimiser]\nlr = 1\n[loop]\nsteps = 1\nbatch = 1\nstep = 2\n'
    )
    assert command(["train", "run", str(tmp_path / "a.toml")]) == 2
    assert "lacks the setting model" in capsys.readouterr().err
    assert command(["train", "resume", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert command(["train", "run", "uss_audioset", "--set", "data.train.path=/nowhere"]) == 2
    assert "/nowhere is no folder" in capsys.readouterr().err
