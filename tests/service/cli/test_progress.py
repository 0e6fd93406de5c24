import contextlib
import os
import pty
import subprocess
import threading
from pathlib import Path

import pytest

from stemwright.models.separation.separator import Progress
from stemwright.service.cli.progress import ProgressDisplay
from tests.service.conftest import Workshop
from tests.service.recordings import recording


def progress(done: int, total: int = 4) -> Progress:
    stage = "separation" if total else "analysis"
    return Progress(
        stage=stage,  # type: ignore[arg-type]
        done_chunks=done,
        total_chunks=total,
        audio_s=1.0,
        total_s=2.0,
        elapsed_s=1.0,
    )


def test_without_a_terminal_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay(3) as display, display.track("song") as bar:
        bar.update(progress(1))
        with display.hidden():
            print("result", flush=True)  # noqa: T201
    assert capfd.readouterr() == ("result\n", "")


def test_bars_of_a_terminal(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with ProgressDisplay(2) as display:
        with display.track("[red]song[/red] " + "x" * 60) as bar:
            bar.update(progress(0, 0))
            bar.update(progress(2))
            with display.hidden():
                print("result", flush=True)  # noqa: T201
            bar.update(progress(4))
        with display.track("next"):
            pass
    out, err = capfd.readouterr()
    assert out == "result\n"
    assert "[red]song[/red]" in err
    assert "all tracks" in err


@pytest.mark.slow
def test_a_terminal_gets_bars_and_the_pipe_only_paths(workshop: Workshop) -> None:
    recording(Path("song.wav"), 44100 * 60)
    main, other = pty.openpty()
    command = workshop.fresh_command("separate", "song.wav", "-o", "out", "-m", "tiny", "--device", "cpu")
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    pieces: list[bytes] = []
    reader = threading.Thread(target=_read_all, args=(main, pieces), daemon=True)
    reader.start()
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=other, env=environment, timeout=60)
    os.close(other)
    reader.join(10)
    os.close(main)
    shown = b"".join(pieces).decode()
    assert ended.returncode == 0
    assert ended.stdout.decode().splitlines()[-1] == "out/song/result.json"
    assert "%" in shown and "separating" in shown


def _read_all(terminal: int, pieces: list[bytes]) -> None:
    """Take what is shown as it comes, until nobody has the terminal open for writing."""
    with contextlib.suppress(OSError):  # how Linux tells that
        while piece := os.read(terminal, 1 << 16):
            pieces.append(piece)
