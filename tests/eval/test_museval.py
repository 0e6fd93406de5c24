"""Scores of museval's own regression test, from its audio and its JSON."""

import json

import numpy as np
import pytest

from stemwright.core.audio.source import open_source
from stemwright.eval.bss_eval.images import METRICS, ArrayPairs, ImagesOptions
from stemwright.eval.bss_eval.scenarios import score_scenarios
from stemwright.eval.museval_files import as_museval
from tests.support.paths import shared

NAMES = ("vocals", "accompaniment")
FULL_SCALE = np.float64(32768)
DRUMS, BASS, OTHER, VOCALS = 1, 2, 3, 4


@pytest.mark.slow
def test_the_stored_scores() -> None:
    """Random estimates of a real song.

    SDR to the digits of the file. The other metrics within museval's own tolerance: the song is from AAC, so
    that they depend on the last bit of the decoder's samples, which are rounded to 16 bits as its tools do.
    museval itself, given these samples, gives our values to 1e-6 dB.
    """
    root = shared("data/fixtures/musdb_7s_sample")
    (path,) = (root / "train").glob("*.stem.mp4")
    stems = {
        index: np.rint(np.concatenate(list(open_source(path, stream=index).blocks()), axis=1) * FULL_SCALE)
        / FULL_SCALE
        for index in (DRUMS, BASS, OTHER, VOCALS)
    }
    references = np.stack([stems[VOCALS], stems[DRUMS] + stems[BASS] + stems[OTHER]])
    samples = references.shape[-1]
    assert samples == 300_032
    state = np.random.RandomState(0)
    estimates = np.stack([state.random_sample((samples, 2)).T for _ in NAMES])
    pairs = ArrayPairs(NAMES, references, estimates, 44100)
    found = as_museval(score_scenarios(pairs, ImagesOptions(exact=True)))
    expected = json.loads((root / f"{path.name.removesuffix('.stem.mp4')}.json").read_text())
    theirs = {target["name"]: target["frames"] for target in expected["targets"]}
    for target in found["targets"]:
        assert len(target["frames"]) == len(theirs[target["name"]]) == 6
        for mine, other in zip(target["frames"], theirs[target["name"]], strict=True):
            assert mine["time"] == other["time"]
            assert mine["duration"] == other["duration"]
            for metric in METRICS:
                tolerance = 1.1e-5 if metric == "SDR" else 0.1
                expected_value = pytest.approx(other["metrics"][metric], abs=tolerance)
                assert mine["metrics"][metric] == expected_value, metric
