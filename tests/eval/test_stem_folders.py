"""Folders of stems: pairing by name, refusals, museval's JSON, the command."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemwright.core.errors import InputError
from stemwright.eval.bss_eval.images import ArrayPairs, ImagesOptions, score_images
from stemwright.eval.museval_files import museval_json
from stemwright.eval.stem_folders import open_stem_folders
from stemwright.service.cli.main import run
from tests.support.paths import shared

RATE = 8000


def write(
    folder: Path, name: str, samples: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", rate: int = RATE
) -> None:
    folder.mkdir(exist_ok=True)
    soundfile.write(folder / name, samples.T, rate, subtype="DOUBLE" if name.endswith(".wav") else None)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    generator = np.random.default_rng(0)
    true = 0.1 * generator.standard_normal((2, 2, 3 * RATE))
    found = true + 0.01 * generator.standard_normal(true.shape)
    for index, name in enumerate(("bass", "vocals")):
        write(tmp_path / "true", f"{name}.wav", true[index])
        write(tmp_path / "found", f"{name}.wav", found[index])
    return tmp_path / "true", tmp_path / "found"


def test_files_give_what_arrays_give(folders: tuple[Path, Path]) -> None:
    pairs = open_stem_folders(*folders)
    true, estimated = (
        np.stack([soundfile.read(folder / name, dtype="float32")[0].T for name in ("bass.wav", "vocals.wav")])
        for folder in folders
    )
    options = ImagesOptions(taps=16)
    expected = score_images(ArrayPairs(("bass", "vocals"), true, estimated, RATE), options)
    found = score_images(pairs, options)
    assert found.names == expected.names
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-12)


def test_a_stem_without_an_estimate_is_named(folders: tuple[Path, Path]) -> None:
    (folders[1] / "bass.wav").unlink()
    with pytest.raises(InputError, match="has no stem bass"):
        open_stem_folders(*folders)
    assert open_stem_folders(*folders, ("vocals",)).names == ("vocals",)


def test_an_estimate_without_a_reference_is_left_out(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    write(folders[1], "residual.wav", np.zeros((2, 3 * RATE)))
    write(folders[0], "mixture.wav", np.zeros((2, 3 * RATE)))
    caplog.set_level(logging.WARNING)
    assert open_stem_folders(*folders).names == ("bass", "vocals")
    assert "residual.wav is not scored" in caplog.text


def test_other_forms_are_refused(folders: tuple[Path, Path]) -> None:
    for samples, rate, message in (
        (np.zeros((2, 3 * RATE)), RATE * 2, "16000 Hz.*8000 Hz"),
        (np.zeros((1, 3 * RATE)), RATE, "1 channels.* 2"),
        (np.zeros((2, 5 * RATE)), RATE, r"bass.wav is 2.0 s longer than .*"),
    ):
        write(folders[1], "bass.wav", samples, rate)
        with pytest.raises(InputError, match=message):
            open_stem_folders(*folders)


def test_a_little_longer_is_cut_with_a_warning(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    write(folders[1], "bass.wav", np.full((2, 3 * RATE + 5), 0.1))
    caplog.set_level(logging.WARNING)
    assert open_stem_folders(*folders).samples == 3 * RATE
    assert "5 samples longer" in caplog.text


def test_museval_form(folders: tuple[Path, Path]) -> None:
    """The keys of a file that museval wrote, and NaN for what is infinite."""
    scores = score_images(open_stem_folders(*folders), ImagesOptions(taps=16))
    scores.values[0, 0, 0] = np.inf
    data = json.loads(museval_json(scores))
    published = json.loads(
        (shared("data/fixtures/musdb_7s_sample") / "Music Delta - 80s Rock.json").read_text()
    )
    ours, theirs = data["targets"][0], published["targets"][0]
    assert set(ours) == set(theirs)
    assert set(ours["frames"][0]) == set(theirs["frames"][0])
    assert set(ours["frames"][0]["metrics"]) == set(theirs["frames"][0]["metrics"])
    assert np.isnan(ours["frames"][0]["metrics"]["SDR"])
    assert [frame["time"] for frame in ours["frames"]] == [0.0, 1.0, 2.0]


def test_command(folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scores.json"
    command = ["eval", "score", "--reference", str(folders[0]), "--estimate", str(folders[1]), "-o", str(out)]
    assert run(command) == 0
    printed = capsys.readouterr().out
    assert "vocals" in printed
    (row,) = [line.split() for line in printed.splitlines() if line.startswith("vocals")]
    assert float(row[1]) == pytest.approx(20, abs=0.2)  # the noise lies 20 dB below
    assert len(json.loads(out.read_text())["targets"]) == 2
    assert run(command) == 2  # the file exists
    assert run([*command, "--overwrite"]) == 0
