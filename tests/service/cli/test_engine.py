import subprocess
import sys
from pathlib import Path

import pytest

from stemwright.models.registry.store import Installed, ModelStore, open_model
from stemwright.service.cli import pulling
from tests.service.conftest import Workshop
from tests.service.recordings import recording
from tests.support.tiny_models import install_tiny_model


@pytest.fixture
def pulled(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Pulls are written down, and install a tiny model of that name."""
    calls: list[tuple[str, bool]] = []

    def pull(name: str, store: ModelStore, *, accept_licence: bool) -> Installed:
        calls.append((name, accept_licence))
        install_tiny_model(store.root, name)
        return open_model(name, store)

    monkeypatch.setattr(pulling, "pull_in_terminal", pull)
    recording(Path("song.wav"))
    return calls


def test_accepting_the_licence_pulls_without_asking(
    workshop: Workshop, pulled: list[tuple[str, bool]]
) -> None:
    ended = workshop.run("separate", "song.wav", "-o", "out", "--device", "cpu", "--accept-licence")
    assert ended.code == 0, ended.err
    assert pulled == [("htdemucs", True)]
    again = workshop.run("separate", "song.wav", "-o", "two", "--device", "cpu", "--accept-licence")
    assert again.code == 0
    assert len(pulled) == 1


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_at_a_terminal_is_asked(
    workshop: Workshop, pulled: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch, answer: bool
) -> None:
    questions: list[str] = []

    def confirm(text: str, **_: object) -> bool:
        questions.append(text)
        return answer

    monkeypatch.setattr(pulling, "someone_there", lambda: True)
    monkeypatch.setattr("typer.confirm", confirm)
    ended = workshop.run("separate", "song.wav", "-o", "out", "--device", "cpu")
    assert questions == ["The model htdemucs is not installed. Pull it now?"]
    assert ended.code == (0 if answer else 2)
    assert pulled == ([("htdemucs", False)] if answer else [])


def test_nobody_there_is_told_the_command(workshop: Workshop, pulled: list[tuple[str, bool]]) -> None:
    ended = workshop.run("separate", "song.wav", "-o", "out")
    assert ended.shows_error("htdemucs", "stemwright models pull htdemucs")
    assert pulled == []


def test_what_the_catalogue_does_not_have_is_never_pulled(
    workshop: Workshop, pulled: list[tuple[str, bool]]
) -> None:
    ended = workshop.separate("song.wav", "-o", "out", "--accept-licence", model="nonsense")
    assert ended.code == 2
    assert pulled == []


def test_a_model_that_is_there_needs_no_web_client(workshop: Workshop) -> None:
    recording(Path("song.wav"))
    code = (
        "import sys; from stemwright.service.cli.main import run; assert run(sys.argv[1:]) == 0;"
        "assert 'httpx' not in sys.modules"
    )
    arguments = ["separate", "song.wav", "-o", "out", "-m", "tiny", "--device", "cpu"]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
