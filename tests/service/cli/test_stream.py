"""`stemwright stream` as a program between pipes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemwright.models.conv_tasnet.configs import PAPER, PAPER_CAUSAL
from tests.support.conv_tasnet import install_conv_tasnet, small

FRAMES = 4321


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    install_conv_tasnet(folder, small(PAPER_CAUSAL), "live")
    install_conv_tasnet(folder, small(PAPER), "whole")
    return folder


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "in.wav"
    samples = np.random.default_rng(0).standard_normal(FRAMES) * 0.1
    soundfile.write(path, samples, 8000, subtype="FLOAT")
    return path


def command(*arguments: str) -> list[str]:
    code = "import sys; from stemwright.service.cli.main import main; main()"
    return [sys.executable, "-c", code, "stream", *arguments]


def environment(models: Path) -> dict[str, str]:
    cache = str(models.parent / f"{models.name}-cache")
    return {**os.environ, "STEMWRIGHT_MODELS": str(models), "XDG_CACHE_HOME": cache}


def run(models: Path, data: bytes, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        command(*arguments), input=data, capture_output=True, env=environment(models), check=False
    )


def test_wav_in_and_wav_out(models: Path, wav: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    with wav.open("rb") as source, out.open("wb") as target:
        done = subprocess.run(
            command("-m", "live", "--json"),
            stdin=source,
            stdout=target,
            stderr=subprocess.PIPE,
            env=environment(models),
            check=True,
        )
    info = soundfile.info(out)
    # A file gets its true length, which a pipe cannot.
    assert (info.frames, info.channels, info.samplerate, info.subtype) == (FRAMES, 2, 8000, "FLOAT")
    report = json.loads(done.stderr)
    assert report["seconds"] == FRAMES / 8000
    assert report["model_latency_s"] == 0.002
    stems, _ = soundfile.read(out, dtype="float32")
    raw = run(models, wav.read_bytes(), "-m", "live", "--out-format", "f32le", "--stems", "speaker2,speaker1")
    piped = np.frombuffer(raw.stdout, "<f4").reshape(-1, 2)
    np.testing.assert_allclose(piped[:, ::-1], stems, atol=1e-5 * np.abs(stems).max())
    assert b"latency: model 2.0 ms" in raw.stderr


def test_raw_samples_and_odd_bytes(models: Path) -> None:
    data = (np.random.default_rng(0).standard_normal((500, 2)) * 3000).astype("<i2").tobytes()
    done = run(models, data + b"abc", "-m", "live", "--format", "s16le", "--channels", "2")
    assert (done.returncode, len(done.stdout)) == (0, 500 * 2 * 2 * 2)
    assert b"3 bytes at the end make no whole sample" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "data", "message"),
    [
        (["-m", "whole"], b"", "whole cannot be streamed"),
        (["-m", "live"], b"no sound", "standard input is no WAV"),
        (["-m", "live", "--rate", "8000"], b"", "a WAV says its rate and channels itself"),
        (["-m", "live", "--format", "s16le", "--stems", "drums"], b"", "live has no stem drums"),
        (["-m", "live", "--format", "s16le", "--piece", "0"], b"", "pieces of 0 ms"),
        (["-m", "live", "--format", "s16le", "--rate", "7"], b"", "at 7 Hz cannot be streamed"),
        (["-m", "liv"], b"", "no model"),
    ],
)
def test_mistakes_are_told(models: Path, arguments: list[str], data: bytes, message: str) -> None:
    done = run(models, data, *arguments)
    assert done.returncode == 2
    assert message in done.stderr.decode()
    assert b"hint:" in done.stderr
    assert done.stdout == b""


def test_stems_come_while_the_stream_goes_on_and_ctrl_c_ends_it(models: Path) -> None:
    piece = (np.random.default_rng(0).standard_normal(1600) * 3000).astype("<i2").tobytes()
    with subprocess.Popen(
        command("-m", "live", "--format", "s16le"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(models),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(2):
            process.stdin.write(piece)
            process.stdin.flush()
            # All but the last hop of what came so far is there before more comes.
            assert len(process.stdout.read((1600 - 8) * 4)) == (1600 - 8) * 4
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read().decode()
        assert process.wait() == 130
    assert "0.40 s of sound" in errors
    assert "error: interrupted" in errors


def test_a_reader_that_goes_away_ends_it_quietly(models: Path) -> None:
    with subprocess.Popen(
        command("-m", "live", "--format", "s16le"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(models),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(bytes(64_000))
        process.stdin.close()
        errors = process.stderr.read().decode()
        assert process.wait() == 1
    assert "Traceback" not in errors
    assert "error" not in errors
