"""Two processes share a step: their gradients are those of one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stemwright.core.errors import OptionError
from stemwright.training.checkpoints import Checkpoints, load_checkpoint
from stemwright.training.devices import Place
from stemwright.training.loop import train
from stemwright.training.run_folder import RunFolder
from tests.support.paths import ROOT
from tests.support.training_runs import small_config, tone_sources

_LOOP = {
    "steps": 4,
    "batch": 4,
    "validate_every": 2,
    "log_every": 1,
    "checkpoint_every": 1,
    "keep": 4,
    "ema": 0.0,
}

_PROGRAM = """
import json, sys
from pathlib import Path
from stemwright.training.config import config_from
from stemwright.training.loop import train
from tests.support.training_runs import tone_sources
config = config_from(json.loads(sys.argv[1]))
outcome = train(config, Path(sys.argv[2]), sources=tone_sources(config))
print(outcome.step, outcome.best.value)
"""


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    config = small_config("conv_tasnet", segment_s=0.3, loop=_LOOP)
    train(config, tmp_path / "one", sources=tone_sources(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / ".dev"), str(ROOT)]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    # What torchrun sets.
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, config.model_dump_json(), str(tmp_path / "two")],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    told = [process.communicate() for process in processes]
    assert all(process.returncode == 0 for process in processes), told
    assert told[0][0] == told[1][0]  # both know the best validation

    # After one update Adam's first moment is a tenth of the gradient.
    one, two = (
        load_checkpoint(tmp_path / name / "checkpoints" / "step-000000001.pt")["optimiser"]["state"]
        for name in ("one", "two")
    )
    assert one.keys() == two.keys()
    for key, moments in one.items():
        gradients = 10 * moments["exp_avg"], 10 * two[key]["exp_avg"]
        torch.testing.assert_close(*gradients, rtol=0, atol=1e-5)
    assert max(float(moments["exp_avg"].abs().max()) for moments in one.values()) > 1e-2

    rows = {name: RunFolder(tmp_path / name).rows() for name in ("one", "two")}
    losses = {name: [row["loss"] for row in found if row["kind"] == "train"] for name, found in rows.items()}
    assert losses["two"] == pytest.approx(losses["one"], abs=1e-3)
    assert len([row for row in rows["two"] if row["kind"] == "network"]) == 2
    last = Checkpoints(tmp_path / "two" / "checkpoints", keep=4).last()
    assert last is not None and load_checkpoint(last)["step"] == 4


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    place = Place(device=torch.device("cpu"), rank=1, world=2)
    assert place.share(4) == 2
    with pytest.raises(OptionError, match="a batch of 3 cannot be shared by 2"):
        place.share(3)
