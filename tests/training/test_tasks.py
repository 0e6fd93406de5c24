"""Losses and separation of every family; validation by the network is validation by the engine."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stemwright.core.errors import InputError, OptionError
from stemwright.training.data.batches import make_batch
from stemwright.training.serving import validate_engine
from stemwright.training.tasks import task_of
from stemwright.training.tasks.ibm_cnn import IBMCNNTask, magnitude, patches_of, spectrum_of, waveform_of
from stemwright.training.tasks.scoring import score_items, sdr, si_sdr
from stemwright.training.validating import held_out, validate_network
from tests.support.training_runs import MODELS, small_config, tones_for


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(MODELS))
def test_a_loss_of_a_batch_is_the_mean_of_its_halves(family: str) -> None:
    task = task_of(small_config(family))
    torch.manual_seed(0)
    net = task.network().eval()
    tones = tones_for(task, task.segment_samples(0.2))
    whole = task.loss(net, make_batch(tones, 0, 0, 4)).total
    halves = [task.loss(net, make_batch(tones, 0, 0, 2, first_index=first)).total for first in (0, 2)]
    assert float(whole.detach()) == pytest.approx(float(sum(halves).detach()) / 2, rel=1e-4)  # type: ignore[union-attr]
    whole.backward()  # type: ignore[no-untyped-call]


def test_the_multi_resolution_loss_is_added() -> None:
    task = task_of(small_config("conv_tasnet", objective={"mrstft": 0.5}))
    losses = task.loss(task.network(), make_batch(tones_for(task, 4000), 0, 0, 2))
    assert set(losses.parts) == {"si_snr", "mrstft"}
    total = float(losses.parts["si_snr"]) + 0.5 * float(losses.parts["mrstft"])
    assert float(losses.total.detach()) == pytest.approx(total, rel=1e-5)


def test_data_without_conditions_is_refused() -> None:
    task = task_of(small_config("universal"))
    plain = task_of(small_config("conv_tasnet"))
    with pytest.raises(InputError, match="condition of 521 values, the data has none"):
        task.loss(task.network(), make_batch(tones_for(plain, 3200), 0, 0, 1))


def test_the_ibm_cnns_front_end_is_the_papers() -> None:
    signal = torch.randn(1, 4096 * 4, generator=torch.manual_seed(0))
    restored = waveform_of(spectrum_of(signal), signal.shape[-1])
    inside = slice(1024, -1024)
    assert float((restored - signal)[:, inside].abs().max()) < 1e-5
    sine = torch.sin(torch.arange(22_050) * 6.283185 * 1000 / 22_050)[None]
    assert float(magnitude(sine).max()) == pytest.approx(0.4988, abs=1e-3)
    borders = waveform_of(spectrum_of(torch.ones(1, 4096)), 4096)[0]
    # The page's gains, but that this spectrum has no sound before the first frame.
    assert borders[[0, 64, 128, 255]].tolist() == pytest.approx([0.75, 0.8457, 0.9268, 1.0], abs=1e-3)


def test_patches_share_one_frame() -> None:
    frames = torch.arange(2 * 17 * 3, dtype=torch.float32).reshape(2, 17, 3)
    patches = patches_of(frames)
    assert patches.shape == (4, 1, 9, 3)
    assert torch.equal(patches[0, 0, 8], patches[1, 0, 0])
    assert torch.equal(patches[3, 0], frames[1, 8:])


def test_a_segment_of_the_ibm_cnn_has_whole_patches() -> None:
    task = task_of(small_config("ibm_cnn"))
    assert isinstance(task, IBMCNNTask)
    for seconds in (0.05, 0.3, 1.0, 9.9962):
        frames = task.segment_samples(seconds) // 256 - 4
        assert frames % 8 == 1


def test_scores_are_those_of_their_definitions() -> None:
    rng = np.random.default_rng(0)
    true, noise = rng.standard_normal((2, 1, 8000))
    noise -= noise.mean() + true * float((noise * true).sum() / np.square(true).sum())
    noise *= np.linalg.norm(true) / np.linalg.norm(noise) / 10
    heard, spoken = (true + noise).astype(np.float32), true.astype(np.float32)
    assert sdr(heard, spoken) == pytest.approx(20.0, abs=1e-3)
    assert si_sdr(3 * heard, spoken) == pytest.approx(20.0, abs=0.02)


def test_speakers_are_scored_in_their_best_order() -> None:
    task = task_of(small_config("conv_tasnet"))
    item = tones_for(task, 4000).example(0, 0, 0)
    scores = score_items("speakers", task.stems, [item], [item.targets[::-1] + 0.001 * item.mixture])
    assert scores["si_sdri"] > 30
    assert scores["score"] == scores["si_sdri"]


def test_silent_targets_count_nowhere() -> None:
    task = task_of(small_config("conv_tasnet"))
    item = tones_for(task, 4000).example(0, 0, 0)
    item.targets[1] = 0
    scores = score_items("stems", ("a", "b"), [item], [item.targets * 0.9])
    assert scores["sdr"] == pytest.approx(20.0, abs=1e-3)
    assert "sdri_b" not in scores
    item.targets[:] = 0
    assert np.isnan(score_items("stems", ("a", "b"), [item], [item.targets])["score"])


def test_speakers_in_items_longer_than_a_call_are_refused() -> None:
    task = task_of(small_config("conv_tasnet"))
    with pytest.raises(OptionError, match="longer than a call"):
        task.separate(task.network(), torch.zeros(1, 1, 8 * 8000 + 8), None)


# Lengths with a second, shorter chunk where the engine would cut one.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "sections", "samples"),
    [
        ("conv_tasnet", {}, 12_345),
        ("conv_tasnet", {"model": {"variant": "causal"}}, 12_345),
        ("conv_tasnet", {"model": {"stems": ["low", "high"]}}, 80_000),
        ("ibm_cnn", {}, 45_678),
        ("universal", {}, 70_000),
        pytest.param("demucs", {}, 30_000, marks=pytest.mark.long),
        pytest.param(
            "demucs",
            {
                "model": {
                    "variant": "htdemucs",
                    "sizes": {"channels": 8, "bottom_channels": 16, "heads": 2, "transformer_layers": 2},
                }
            },
            50_000,
            marks=pytest.mark.long,
        ),
    ],
)
def test_validation_by_the_network_is_validation_by_the_engine(
    family: str, sections: dict[str, Any], samples: int
) -> None:
    task = task_of(small_config(family, **sections))
    torch.manual_seed(0)
    net = task.network()
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    tones = tones_for(task, task.segment_samples(0.5))
    for step in range(20):  # so that norms and masks are not those of the beginning
        optimiser.zero_grad()
        task.loss(net, make_batch(tones, 0, step, 2)).total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    net.eval()
    items = held_out(tones_for(task, samples), 2)
    own = validate_network(task, net, items, torch.device("cpu"))
    served = validate_engine(task, net, items)
    assert set(own) - {"loss"} == set(served)
    for name, value in served.items():
        assert value == pytest.approx(own[name], abs=0.05), name


_HIDDEN = (
    "av",
    "librosa",
    "onnx",
    "onnxruntime",
    "platformdirs",
    "safetensors",
    "soundfile",
    "soxr",
    "typer",
)


@pytest.mark.slow
def test_the_loop_needs_neither_audio_libraries_nor_a_runtime(tmp_path: Path) -> None:
    program = (
        f"import sys\nfor name in {_HIDDEN!r}: sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from stemwright.training.loop import train\n"
        "from tests.support.training_runs import small_config, tone_sources\n"
        "config = small_config('conv_tasnet', segment_s=0.2, loop={'steps': 2, 'validate_every': 1})\n"
        f"print(train(config, Path({str(tmp_path)!r}) / 'run', sources=tone_sources(config)).step)\n"
    )
    path = ":".join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "2"
