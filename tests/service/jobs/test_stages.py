"""What the stages ask of the engine, held to what the command line asks; and the stems of both."""

import os
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from stemwright.core.audio.encode import OutputFormat
from stemwright.core.errors import OptionError
from stemwright.models.separation.pipeline import CancelToken
from stemwright.models.separation.separator import SeparationOptions
from stemwright.service.cli.engine import track_options as asked_on_the_command_line
from stemwright.service.cli.options import Choices
from stemwright.service.isolation.decoders import Decoder, Decoders
from stemwright.service.isolation.messages import Start
from stemwright.service.jobs.database import Database
from stemwright.service.jobs.ledger import Attempt
from stemwright.service.jobs.model import JobSpec
from stemwright.service.jobs.stages import Workshop, placed, track_options
from stemwright.service.jobs.supervisor import settings_environment
from stemwright.service.jobs.warm import WarmEngines
from stemwright.service.jobs.watching import Gauge
from stemwright.service.storage import Storage, upload_part_key
from stemwright.service.tracks import TrackOptions
from tests.service.jobs.service import CHUNK, Service, recording
from tests.support.paths import ROOT
from tests.support.servers import Backend
from tests.support.stub_worker import StubEngines
from tests.support.tiny_models import install_tiny_model
from tests.support.tiny_taggers import install_tiny_asked_model, install_tiny_tagger

CHOICES = {
    "models": ("m",), "weights": None, "stems": None, "two_stems": None, "residual": False,
    "container": "wav", "bit_depth": None, "bitrate": None, "clip_mode": "shared", "shifts": 0, "seed": 0,
    "overlap": None, "device": "auto", "precision": "auto", "threads": None, "low_memory": False,
    "accept_licence": False, "json_lines": False,
}  # fmt: skip


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"stems": ("vocals", "drums"), "residual": True, "shifts": 3, "seed": 7, "overlap": 0.5},
        {"two_stems": "vocals", "container": "flac", "bit_depth": "24"},
        {"container": "mp3", "bitrate": 192},
        {"container": "wav", "clip_mode": "float"},
        {"container": "wav", "bit_depth": "32f", "clip_mode": "clamp"},
        {"container": "stem.mp4", "bitrate": 256},
    ],
)
def test_a_job_asks_as_the_command_line_does(asked: dict[str, object]) -> None:
    spec = {("format" if name == "container" else name): value for name, value in asked.items()}
    expected = asked_on_the_command_line(Choices(**{**CHOICES, **asked}))  # type: ignore[arg-type]
    assert track_options(JobSpec.model_validate(spec)) == expected


def test_stems_whose_names_meet_get_files_of_their_own() -> None:
    options = TrackOptions(separation=SeparationOptions(), fmt=OutputFormat(container="wav"))
    place = placed(Path("/out"), ("A", "a", "b/c", "..", "A"), options, "song.flac")
    paths = [file.path for file in place.files]
    assert len({str(path).lower() for path in paths}) == 5
    assert all(path.parent == PurePosixPath(".") for path in paths)
    assert paths[0] == PurePosixPath("A.wav")


@pytest.mark.slow
def test_a_job_s_stems_are_those_of_the_command_line(tmp_path: Path) -> None:
    install_tiny_model(tmp_path / "models", "tiny")
    song = tmp_path / "song.wav"
    song.write_bytes(recording(20))
    values = {"models": tmp_path / "models", "default_model": "tiny", "device": "cpu"}
    with Service.open(tmp_path, Backend(name="sqlite+folder", settings=values)) as service:
        upload = service.upload(song.read_bytes())
        spec = JobSpec(format="flac", residual=True)
        job = service.do(service.board.submit(spec, owner="local", upload_id=upload)).job.id
        _command("worker", "--once", env={**os.environ, **settings_environment(service.settings)})
        view = service.job(job)
        assert view.result is not None, view.error
        assert [model["name"] for model in view.result["models"]] == ["tiny"]
        assert view.result["networks"][0]["provider"] == "cpu"
        options = ("-m", "tiny", "--device", "cpu", "--format", "flac", "--residual")
        _command(
            "separate", *options, "-o", str(tmp_path / "out"), str(song),
            env={**os.environ, "STEMWRIGHT_MODELS": str(tmp_path / "models")},
        )  # fmt: skip
        assert len(view.stems) == 5
        for stem in view.stems:
            assert service.stem(view, stem.name) == (tmp_path / "out" / "song" / stem.file).read_bytes()


def _command(*arguments: str, env: dict[str, str]) -> None:
    line = [sys.executable, "-m", "stemwright.service.cli", *arguments]
    done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr


class CountingDecoders(Decoders):
    """Counts the processes that it starts."""

    started = 0

    def start(self, start: Start) -> Decoder:
        self.started += 1
        return super().start(start)


def test_a_job_fetches_its_recording_once_and_opens_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(str(tmp_path / "store"), scratch=tmp_path / "scratch")
    storage.write_bytes(upload_part_key("song", 0), recording(3))
    fetched: list[str] = []
    fetch = storage.fetch_upload

    def counted(upload: str, target: Path) -> int:
        fetched.append(upload)
        return fetch(upload, target)

    monkeypatch.setattr(storage, "fetch_upload", counted)
    attempt = Attempt(
        job_id="j",
        owner="o",
        name="song.wav",
        upload_id="song",
        run="r",
        number=1,
        spec=JobSpec(model="slow-0"),
    )
    with CountingDecoders() as decoders:
        workshop = Workshop(
            storage=storage,
            database=Database.open(f"sqlite:///{tmp_path}/x.sqlite"),
            engines=StubEngines(Path("/nowhere"), device="cpu", precision="float32", most=1),
            decoders=decoders,
            scratch=tmp_path / "scratch",
            max_audio_s=60,
        )
        with workshop.bench(attempt) as bench:
            assert workshop.probe(bench)["seconds"] == pytest.approx(3 * CHUNK / 44100)
            assert len(workshop.separate(bench, Gauge(), CancelToken())["stems"]) == 2
            assert decoders.started <= 2  # tags may be read beside the samples
        assert fetched == ["song"]
        assert not bench.folder.exists()
        workshop.engines.close()
        workshop.database.close()


@pytest.mark.slow
def test_a_job_can_ask_for_sounds(tmp_path: Path) -> None:
    install_tiny_tagger(tmp_path / "models", "ears")
    install_tiny_asked_model(tmp_path / "models", "asked")
    storage = Storage(str(tmp_path / "store"), scratch=tmp_path / "scratch")
    for upload, seed in (("song", 0), ("example", 1)):
        storage.write_bytes(upload_part_key(upload, 0), recording(30, seed=seed))
    workshop = Workshop(
        storage=storage,
        database=Database.open(f"sqlite:///{tmp_path}/x.sqlite"),
        engines=WarmEngines(tmp_path / "models", device="cpu", precision="float32", most=1),
        decoders=Decoders(),
        scratch=tmp_path / "scratch",
        max_audio_s=60,
    )

    def stems(**asked: object) -> list[str]:
        spec = JobSpec.model_validate({"model": "asked", **asked})
        attempt = Attempt(
            job_id="j", owner="o", name="song.wav", upload_id="song", run="r", number=1, spec=spec
        )
        try:
            with workshop.bench(attempt) as bench:
                return [stem["name"] for stem in workshop.separate(bench, Gauge(), CancelToken())["stems"]]
        finally:
            workshop.drop_attempt(attempt)

    assert stems(query=("Dog",)) == ["dog"]
    assert len(stems(query_audio="example")) == 1
    with pytest.raises(OptionError, match="what it is asked for"):
        stems()
    workshop.decoders.close()
    workshop.engines.close()
    workshop.database.close()
