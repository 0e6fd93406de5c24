"""The models that come with the package, from the command line and offline.

The speakers were never trained on; the clips were. Floors lie well below the cards' scores.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from stemwright.models.manifest import Manifest
from stemwright.models.registry.names import MODELS_VARIABLE
from stemwright.models.registry.shipped import SHIPPED
from stemwright.models.registry.store import ModelStore
from tests.support.paths import shared

Samples = NDArray[np.float64]
FIRST = ("convtasnet-2spk", "uss-lite")


def separated(mixture: Samples, rate: int, folder: Path, *options: str) -> dict[str, Samples]:
    """Separate by the command line with no model installed."""
    soundfile.write(folder / "mixture.wav", mixture.T, rate, subtype="FLOAT")
    command = [sys.executable, "-m", "stemwright.service.cli", "separate", str(folder / "mixture.wav")]
    environment = os.environ | {MODELS_VARIABLE: str(folder / "none")}
    subprocess.run(
        [*command, *options, "-o", str(folder / "out"), "--device", "cpu"],
        check=True,
        env=environment,
        capture_output=True,
    )
    found = {path.stem: soundfile.read(path)[0].T for path in (folder / "out").rglob("*.wav")}
    assert found
    return found


def sdr(reference: Samples, estimate: Samples) -> float:
    return float(10 * np.log10(np.square(reference).sum() / np.square(reference - estimate).sum()))


def read(path: Path, start: float, seconds: float) -> tuple[Samples, int]:
    rate = soundfile.info(path).samplerate
    samples, _ = soundfile.read(path, frames=int(seconds * rate), start=int(start * rate))
    return samples, rate


def test_what_is_shipped() -> None:
    total = 0
    for name in FIRST:
        found = ModelStore(Path("/nonexistent")).find_any(name)
        assert isinstance(found.manifest, Manifest)
        assert found.manifest.training is not None
        assert found.manifest.training.experimental
        assert found.manifest.licence.name == "CC-BY-4.0"
        card = (SHIPPED[name] / "MODEL_CARD.md").read_text()
        assert "LibriSpeech" in card
        size = (SHIPPED[name] / "model.onnx").stat().st_size
        assert size < 10e6
        total += size
    assert total < 30e6


@pytest.mark.slow
def test_two_speakers(tmp_path: Path) -> None:
    first = sorted(shared("data/speech", "367").glob("*.flac"))[0]
    second = sorted(shared("data/speech", "1688").glob("*.flac"))[0]
    (one, rate), (two, _) = read(first, 0.5, 4.0), read(second, 0.5, 4.0)
    count = min(len(one), len(two))
    one, two = (part[:count] / part[:count].std() * 0.05 for part in (one, two))
    found = separated(one + two, rate, tmp_path, "-m", "convtasnet-2spk")
    made = [found["speaker1"], found["speaker2"]]
    best = max(sdr(one, made[a]) + sdr(two, made[1 - a]) for a in (0, 1)) / 2
    assert best > 2.0  # of the mixture itself: 0


@pytest.mark.slow
def test_a_sound_that_is_asked_for(tmp_path: Path) -> None:
    clips = shared("data/sound_events")
    rain, rate = read(sorted(clips.glob("rain_*.ogg"))[0], 0.0, 4.0)
    bark, _ = read(sorted(clips.glob("dog_bark_*.ogg"))[0], 0.0, 4.0)
    bark = bark * rain.std() / bark.std()
    found = separated(rain + bark, rate, tmp_path, "-m", "uss-lite", "--query", "rain")
    assert sdr(rain, found["rain"]) > 1.0  # of the mixture itself: 0
