"""FAD of sets: folders, statistics in fadtk's form, FAD-inf, the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemwright.core.errors import InputError, OutputError
from stemwright.eval.embedding.distances import FrameStatistics, Gaussian, frechet_distance
from stemwright.eval.embedding.sets import (
    embed_set,
    extrapolated,
    read_statistics,
    recordings_in,
    write_statistics,
)
from stemwright.models.embedders.session import embedder_session
from stemwright.models.registry.names import MODELS_VARIABLE
from stemwright.models.registry.store import ModelStore
from stemwright.models.sessions.runtimes.contract import SessionOptions
from stemwright.service.cli.main import run
from tests.support.tiny_embedders import RATE, install_tiny_embedder

CPU = SessionOptions(device="cpu", threads=1)


def recordings(folder: Path, seed: int, seconds: tuple[float, ...], level: float = 0.1) -> Path:
    for number, length in enumerate(seconds):
        place = folder / f"song {number}"
        place.mkdir(parents=True)
        sound = np.random.default_rng((seed, number)).normal(0, level, (round(length * RATE), 2))
        soundfile.write(place / "vocals.wav", sound, RATE, subtype="FLOAT")
    return folder


def gaussian(seed: int, size: int = 4, count: int = 2000) -> Gaussian:
    statistics = FrameStatistics.empty(size)
    statistics.add(np.random.default_rng(seed).normal(0, 1 + seed, (count, size)).astype(np.float32))
    return statistics.gaussian()


def test_a_sets_frames_and_gaussian(tmp_path: Path) -> None:
    install_tiny_embedder(tmp_path / "models")
    embedder = embedder_session("place", CPU, ModelStore(tmp_path / "models"))
    paths = recordings_in(recordings(tmp_path / "set", 1, (1.0, 0.05, 2.0)))
    made = embed_set(paths, embedder)
    assert (len(made.frames), made.files, made.gaussian.frames) == (30, 2, 30)
    assert made.skipped == (paths[1],)
    np.testing.assert_allclose(made.gaussian.covariance, np.cov(made.frames, rowvar=False), rtol=1e-9)


def test_what_is_no_set(tmp_path: Path) -> None:
    install_tiny_embedder(tmp_path / "models")
    embedder = embedder_session("place", CPU, ModelStore(tmp_path / "models"))
    (tmp_path / "empty").mkdir()
    for place, pattern in ((tmp_path / "none", "*"), (tmp_path / "empty", "*"), (tmp_path, "x*")):
        with pytest.raises(InputError):
            recordings_in(place, pattern)
    with pytest.raises(InputError, match="give 1 frames of place, not two"):
        embed_set(recordings_in(recordings(tmp_path / "short", 1, (0.1,))), embedder)
    bad = tmp_path / "bad"
    bad.mkdir()
    soundfile.write(bad / "x.wav", np.full((RATE, 1), np.nan), RATE, subtype="FLOAT")
    with pytest.raises(InputError, match="NaN or infinite sample"):
        embed_set(recordings_in(bad), embedder)


def test_statistics_are_read_as_they_are_written(tmp_path: Path) -> None:
    install_tiny_embedder(tmp_path, statistics_name="place-v1")
    facts = embedder_session("place", CPU, ModelStore(tmp_path)).facts
    path, wanted = tmp_path / "s.npz", gaussian(1, 2)
    write_statistics(path, facts, wanted)
    with pytest.raises(OutputError, match="exists already"):
        write_statistics(path, facts, wanted)
    read = read_statistics(path, facts)
    np.testing.assert_array_equal(read.covariance, wanted.covariance)
    assert read.frames == 2000
    with np.load(path) as archive:
        assert sorted(archive.files) == ["place-v1.cov", "place-v1.mu", "place-v1.n"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cannot be read"),
        (b"PK\x03\x04junk", "cannot be read"),
        ({"vggish.mu": np.zeros(2), "vggish.cov": np.eye(2)}, "no statistics of place"),
        ({"place.mu": np.zeros(3), "place.cov": np.eye(3)}, "are damaged"),
        ({"place.mu": np.zeros(2), "place.cov": np.full((2, 2), np.nan)}, "are damaged"),
        ({"place.mu": np.asarray([{}, {}], object), "place.cov": np.eye(2)}, "cannot be read"),
    ],
)
def test_other_files_are_no_statistics(tmp_path: Path, content: object, told: str) -> None:
    install_tiny_embedder(tmp_path)
    facts = embedder_session("place", CPU, ModelStore(tmp_path)).facts
    path = tmp_path / "s.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        assert isinstance(content, dict)
        np.savez(path, **content)
    with pytest.raises(InputError, match=told):
        read_statistics(path, facts)


def test_fad_inf_finds_the_distance_of_infinitely_many_frames() -> None:
    """The bias of few frames goes with 1/n: what is extrapolated is nearer to the truth than any of them."""
    reference = Gaussian(mean=np.zeros(16), covariance=np.eye(16), frames=None)
    frames = np.random.default_rng(3).normal(0, 1, (20_000, 16)).astype(np.float32)
    truth = frechet_distance(reference, reference)
    made = extrapolated(reference, frames)
    assert [made.points[0][0], made.points[-1][0], len(made.points)] == [500, 20_000, 25]
    assert abs(made.score - truth) < 0.2 * made.points[0][1]
    assert made.r2 > 0.9
    counts, distances = (np.asarray(column, float) for column in zip(*made.points, strict=True))
    slope, intercept = np.polyfit(1 / counts, distances, 1)
    assert made.slope == pytest.approx(slope)
    assert made.score == pytest.approx(intercept)
    assert extrapolated(reference, frames).points == made.points
    assert extrapolated(reference, frames, seed=1).points != made.points


def test_fad_inf_needs_frames() -> None:
    with pytest.raises(InputError, match="more than 500 frames, there are 500"):
        extrapolated(gaussian(0), np.zeros((500, 4), np.float16))


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path / "models"))
    install_tiny_embedder(tmp_path / "models")
    true = recordings(tmp_path / "true", 1, (60.0, 2.0))
    found = recordings(tmp_path / "found", 2, (61.0, 1.0), 0.2)
    command = ["eval", "fad", "--embedder", "place", "--estimate", str(found), "--device", "cpu"]
    stats = tmp_path / "true.npz"
    assert run([*command, "--reference", str(true), "--inf", "--save", str(stats), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["reference"]["frames"] == result["estimate"]["frames"] == 620
    assert result["fad"] > 0
    assert len(result["fad_inf"]["points"]) == 25
    assert run([*command, "--reference", str(stats)]) == 0
    said = capsys.readouterr()
    assert f"FAD (place): {result['fad']:.6g}" in said.out
    assert "620 frames of 2 files against 620 frames" in said.out
    assert "terms of place: CC0-1.0" in said.err
    assert run([*command, "--reference", str(true), "--files", "bass.*"]) == 2
    assert "has no recordings named bass.*" in capsys.readouterr().err
