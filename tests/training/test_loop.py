import dataclasses
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from stemwright.core.errors import CancelledError, InputError, ModelFileError, OutputError, ResourceError
from stemwright.training.checkpoints import Checkpoints, load_checkpoint
from stemwright.training.config import config_from
from stemwright.training.errors import DivergedError
from stemwright.training.feeding import Sources
from stemwright.training.loop import train
from stemwright.training.run_folder import RunFolder
from tests.support.paths import ROOT
from tests.support.training_runs import Tones, small_config, tone_sources


def last_state(run: Path) -> dict[str, Any]:
    path = Checkpoints(run / "checkpoints", keep=2).last()
    assert path is not None
    return load_checkpoint(path)


def assert_same_weights(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first["step"] == second["step"]
    for name, tensor in first["model"].items():
        assert torch.equal(tensor, second["model"][name]), name
    if first["average"] is not None:
        for name, tensor in first["average"]["tensors"].items():
            assert torch.equal(tensor, second["average"]["tensors"][name]), name
    moments = zip(first["optimiser"]["state"].values(), second["optimiser"]["state"].values(), strict=True)
    assert all(torch.equal(one[key], other[key]) for one, other in moments for key in one)


@pytest.mark.parametrize("family", ["conv_tasnet", "ibm_cnn"])
def test_a_run_leaves_its_configuration_log_and_checkpoints(family: str, tmp_path: Path) -> None:
    config = small_config(family, segment_s=0.15, loop={"validate_every": 2})
    outcome = train(config, tmp_path / "run", sources=tone_sources(config))
    folder = RunFolder(tmp_path / "run")
    assert folder.config() == config
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == [
        "best.pt",
        "step-000000003.pt",
        "step-000000006.pt",
    ]
    rows = folder.rows()
    assert [row["step"] for row in rows if row["kind"] == "train"] == [2, 4, 6]
    assert {"loss", "gradient", "lr", "examples_per_s", "waiting"} < set(rows[0])
    scores = {row["step"]: row["score"] for row in rows if row["kind"] == "network"}
    assert outcome.best is not None and outcome.best.value == max(scores.values())
    assert load_checkpoint(folder.checkpoints / "best.pt")["step"] == outcome.best.step
    assert list(folder.tensorboard.glob("events.*"))


@pytest.mark.slow
def test_the_same_configuration_gives_the_same_weights_whatever_the_workers(tmp_path: Path) -> None:
    first = small_config("ibm_cnn", segment_s=0.15)  # with dropout
    second = small_config("ibm_cnn", segment_s=0.15, loop={"workers": 2})
    for number, config in enumerate((first, second)):
        train(config, tmp_path / str(number), sources=tone_sources(config))
    assert_same_weights(last_state(tmp_path / "0"), last_state(tmp_path / "1"))


@pytest.mark.slow
@pytest.mark.parametrize("steps", [3, 4])
def test_a_stopped_run_resumes_to_the_weights_of_an_undisturbed_one(steps: int, tmp_path: Path) -> None:
    loop = {"validate_every": 2, "checkpoint_every": 2}
    schedule = {"kind": "plateau", "patience": 1}
    config = small_config("ibm_cnn", segment_s=0.15, loop=loop, schedule=schedule)
    sources = tone_sources(config)
    train(config, tmp_path / "whole", sources=sources)
    stopping = Sources(train=Interrupting(sources.train, steps), valid=sources.valid)  # type: ignore[arg-type]
    with pytest.raises(CancelledError, match=f"stopped after step {steps + 1}"):
        train(config, tmp_path / "part", sources=stopping)
    train(config, tmp_path / "part", resume=True, sources=sources)
    assert_same_weights(last_state(tmp_path / "whole"), last_state(tmp_path / "part"))
    whole, part = (RunFolder(tmp_path / name).rows() for name in ("whole", "part"))
    told = ("step", "kind", "score", "lr")
    assert [[row.get(name) for name in told] for row in whole] == [
        [row.get(name) for name in told] for row in part
    ]


class Interrupting:
    """A source that asks the run to stop, as Ctrl-C does, while an example of a step is drawn."""

    def __init__(self, source: Tones, step: int) -> None:
        self._source, self._step = source, step
        self.names, self.sample_rate = source.names, source.sample_rate

    def example(self, seed: int, step: int, index: int) -> object:
        if step == self._step and index == 0:
            signal.raise_signal(signal.SIGINT)
        return self._source.example(seed, step, index)


_PROGRAM = """
import sys
from pathlib import Path
from stemwright.training.config import config_from
from stemwright.training.loop import train
from tests.support.training_runs import tone_sources
import json
config = config_from(json.loads(sys.argv[1]))
train(config, Path(sys.argv[2]), resume="resume" in sys.argv, sources=tone_sources(config))
"""


def start_run(config: str, run: Path, *more: str) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join([str(ROOT / ".dev"), str(ROOT)])
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, config, str(run), *more],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


@pytest.mark.slow
def test_a_run_killed_at_a_random_moment_resumes_to_the_same_weights(tmp_path: Path) -> None:
    loop = {"steps": 60, "checkpoint_every": 4, "validate_every": 7, "log_every": 3, "ema": 0.99}
    config = small_config("conv_tasnet", segment_s=1.0, loop=loop)
    train(config, tmp_path / "whole", sources=tone_sources(config))
    run, text = tmp_path / "killed", config.model_dump_json()
    process = start_run(text, run)
    folder = RunFolder(run)
    while process.poll() is None and not folder.rows():
        time.sleep(0.01)
    time.sleep(random.uniform(0, 1.5))
    process.kill()
    process.communicate()
    again = start_run(text, run, "resume")
    _, errors = again.communicate()
    assert again.returncode == 0, errors.decode()
    assert_same_weights(last_state(tmp_path / "whole"), last_state(run))
    steps = [row["step"] for row in folder.rows() if row["kind"] == "train"]
    assert steps == list(range(3, 61, 3))


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    config = small_config("conv_tasnet", loop={"steps": 20, "log_every": 1})
    sources = tone_sources(config, bad_step=4)
    with pytest.raises(DivergedError, match="from step 4 on") as caught:
        train(config, tmp_path, sources=sources)
    assert "step-000000003.pt" in caught.value.remedy
    state = last_state(tmp_path)
    assert state["step"] == 3
    assert all(torch.isfinite(tensor).all() for tensor in state["model"].values())


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    config = small_config("conv_tasnet", segment_s=0.3)
    train(config, tmp_path / "first", sources=tone_sources(config))
    start = tmp_path / "first" / "checkpoints" / "step-000000006.pt"
    other = small_config("conv_tasnet", segment_s=0.3, model={"sizes": {"filters": 16, "blocks": 2}})
    with pytest.raises(ModelFileError, match="of a network with filters = 32, not 16"):
        train(other, tmp_path / "second", start=start, sources=tone_sources(other))
    family = small_config("ibm_cnn", segment_s=0.15)
    with pytest.raises(ModelFileError, match="of conv_tasnet, not of ibm_cnn"):
        train(family, tmp_path / "third", start=start, sources=tone_sources(family))
    start.write_bytes(b"PK not a checkpoint")
    with pytest.raises(ModelFileError, match="cannot be read as a checkpoint"):
        train(config, tmp_path / "fourth", start=start, sources=tone_sources(config))


def test_a_second_stage_begins_with_the_weights_and_moments_of_the_first(tmp_path: Path) -> None:
    first = small_config("ibm_cnn", segment_s=0.15, objective={"kind": "autoencoder"}, loop={"ema": 0.0})
    train(first, tmp_path / "first", sources=tone_sources(first))
    second = small_config(
        "ibm_cnn", segment_s=0.15, loop={"steps": 1, "ema": 0.0}, optimiser={"weight_decay": 0.25, "lr": 1e-3}
    )
    start = tmp_path / "first" / "checkpoints" / "step-000000006.pt"
    train(second, tmp_path / "second", start=start, sources=tone_sources(second))
    before, after = load_checkpoint(start), last_state(tmp_path / "second")
    counts = [moments["step"].item() for moments in after["optimiser"]["state"].values()]
    assert set(counts) == {7.0}  # Adam's own count goes on
    assert after["optimiser"]["param_groups"][0]["weight_decay"] == 0.25
    moved = [(after["model"][name] - tensor).abs().max() for name, tensor in before["model"].items()]
    assert 0 < max(moved) < 0.01


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_is_told_and_leaves_the_last_checkpoint(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save({"step": 1}, 1)

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ResourceError, match="no space for the checkpoint of step 2") as caught:
        checkpoints.save({"step": 2}, 2)
    assert "step-000000001.pt" in caught.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.pt"]


@pytest.mark.slow
def test_a_write_that_really_fails_is_told(tmp_path: Path) -> None:
    program = (
        "import resource, torch; from pathlib import Path\n"
        "from stemwright.training.checkpoints import Checkpoints\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        f"Checkpoints(Path({str(tmp_path)!r}), keep=1).save({{'x': torch.zeros(100_000)}}, 5)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".dev")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert "ResourceError: no space for the checkpoint of step 5" in done.stderr
    assert not list(tmp_path.iterdir())


def test_checkpoints_are_rotated(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3, 10):
        checkpoints.save({"step": step}, step)
    checkpoints.save_best({"step": 2}, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.pt",
        "step-000000003.pt",
        "step-000000010.pt",
    ]


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    torch.save({"format": 1, "evil": Evil()}, tmp_path / "x.pt")
    with pytest.raises(ModelFileError, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path / "x.pt")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "y.pt")
    with pytest.raises(ModelFileError, match="is no checkpoint of a run"):
        load_checkpoint(tmp_path / "y.pt")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("false",)


def test_a_run_is_not_overwritten_and_none_is_not_resumed(tmp_path: Path) -> None:
    config = small_config("conv_tasnet", segment_s=0.3, loop={"steps": 1})
    train(config, tmp_path, sources=tone_sources(config))
    with pytest.raises(OutputError, match="there is a run in"):
        train(config, tmp_path, sources=tone_sources(config))
    with pytest.raises(InputError, match="holds no run"):
        RunFolder(tmp_path / "nothing").config()


def test_data_that_does_not_fit_the_network_is_refused(tmp_path: Path) -> None:
    config = small_config("conv_tasnet", segment_s=0.3)
    tones = tone_sources(config).train
    assert isinstance(tones, Tones)
    for other, said in (
        (dataclasses.replace(tones, sample_rate=16_000), "the data is at 16000 Hz"),
        (dataclasses.replace(tones, names=("a", "b", "c")), "the data has a, b, c"),
    ):
        with pytest.raises(InputError, match=said):
            train(config, tmp_path, sources=Sources(train=other))
    named = small_config("conv_tasnet", segment_s=0.3, model={"stems": ["low", "high"]})
    with pytest.raises(InputError, match="the network gives low, high"):
        train(named, tmp_path, sources=Sources(train=tones))
    assert not list(tmp_path.iterdir())


def test_a_finished_run_that_is_resumed_stays_as_it_is(tmp_path: Path) -> None:
    config = small_config("conv_tasnet", segment_s=0.3, loop={"validate_every": 4})
    train(config, tmp_path, sources=tone_sources(config))
    before, log = last_state(tmp_path), RunFolder(tmp_path).rows()
    train(config, tmp_path, resume=True, sources=tone_sources(config))
    assert_same_weights(before, last_state(tmp_path))
    assert RunFolder(tmp_path).rows() == log


def test_a_cut_line_of_the_log_counts_for_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log.write_text('{"step": 1, "kind": "train"}\n{"step": 2, "ki')
    assert [row["step"] for row in folder.rows()] == [1]


def test_a_run_by_time_ends_with_its_time(tmp_path: Path) -> None:
    loop = {"steps": 100_000, "max_seconds": 1.0, "log_every": 1000, "checkpoint_every": 100_000}
    config = small_config(
        "conv_tasnet", segment_s=0.2, loop=loop, schedule={"kind": "cosine", "progress": "time"}
    )
    outcome = train(config, tmp_path, sources=tone_sources(config))
    assert 1.0 <= outcome.seconds < 5.0
    assert 0 < outcome.step < 100_000
    assert last_state(tmp_path)["optimiser"]["param_groups"][0]["lr"] < 1e-3


def test_the_gradient_is_clipped(tmp_path: Path) -> None:
    config = small_config("conv_tasnet", segment_s=0.3, loop={"clip": 1e-9, "steps": 2, "ema": 0.0})
    train(config, tmp_path, sources=tone_sources(config))
    moments = last_state(tmp_path)["optimiser"]["state"]
    assert max(float(one["exp_avg"].abs().max()) for one in moments.values()) < 1e-9
    assert json.loads(RunFolder(tmp_path).log.read_text().splitlines()[0])["gradient"] > 1e-6


def test_bfloat16_trains_and_keeps_float32_weights(tmp_path: Path) -> None:
    config = small_config("conv_tasnet", segment_s=0.3, loop={"precision": "bfloat16"})
    train(config, tmp_path, sources=tone_sources(config))
    assert {tensor.dtype for tensor in last_state(tmp_path)["model"].values()} == {torch.float32}


def test_a_configuration_is_the_same_from_its_own_file(tmp_path: Path) -> None:
    config = small_config("universal", schedule={"kind": "stages", "stages": [{"step": 0, "factor": 0.1}]})
    assert config_from(json.loads(config.model_dump_json())) == config
