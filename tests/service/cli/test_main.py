import os
import subprocess
import sys

import pytest

from stemwright.core.errors import DeviceError, InputError, ResourceError, StemwrightError
from stemwright.service.cli import main as cli
from stemwright.service.cli.main import COMMANDS, load_command, printable, run
from tests.service.conftest import Workshop

# What help and completion must not load.
HEAVY = ("pydantic", "numpy", "av", "onnx", "onnxruntime", "openvino", "rich", "scipy", "soundfile", "torch")
PROBE = """
import os, sys
try:
    from stemwright.service.cli.main import main
    main()
except SystemExit as end:
    loaded = [name for name in {heavy!r} if name in sys.modules]
    used = os.times()
    print(end.code, loaded, used.user + used.system, file=sys.stderr)
"""


def in_fresh_process(workshop: Workshop, *arguments: str) -> tuple[str, list[str]]:
    """Return standard output, and the words that the probe printed."""
    ended = subprocess.run(
        [sys.executable, "-c", PROBE.format(heavy=HEAVY), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout, ended.stderr.split()


@pytest.mark.parametrize("arguments", [["--help"], [], ["--version"]])
def test_help_is_quick_and_loads_nothing_heavy(workshop: Workshop, arguments: list[str]) -> None:
    attempts = [in_fresh_process(workshop, *arguments) for _ in range(3)]
    for out, words in attempts:
        assert out.strip()
        assert words[0] == "0"
        assert words[1] == "[]"
    assert min(float(words[-1]) for _, words in attempts) < 0.3


@pytest.mark.parametrize("command", ["separate", "batch"])
def test_help_of_a_command_loads_nothing_heavy(workshop: Workshop, command: str) -> None:
    out, words = in_fresh_process(workshop, command, "--help")
    assert "--accept-licence" in out
    assert words[0] == "0"
    # typer looks for pydantic's types where it reads a command's annotations
    assert [word for word in words if word.strip("[],'") in HEAVY and "pydantic" not in word] == []


def test_help_lists_every_command(workshop: Workshop) -> None:
    ended = workshop.run("--help")
    assert ended.code == 0
    for name, command in COMMANDS.items():
        assert f"  {name}" in ended.out
        assert command.summary in ended.out


@pytest.mark.parametrize(("shell", "word"), [("bash", "complete"), ("zsh", "compdef"), ("fish", "complete")])
def test_completion_scripts_can_be_had(workshop: Workshop, shell: str, word: str) -> None:
    environment = {**os.environ, "_STEMWRIGHT_COMPLETE": f"source_{shell}"}
    ended = workshop.fresh(env=environment)
    assert ended.returncode == 0
    assert word in ended.stdout.decode()


def test_completion_offers_commands_and_options(workshop: Workshop) -> None:
    def complete(words: str, position: int) -> list[str]:
        environment = {
            **os.environ,
            "_STEMWRIGHT_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(position),
        }
        return workshop.fresh(env=environment).stdout.decode().split()

    assert complete("stemwright sep", 1) == ["separate"]
    assert "--two-stems" in complete("stemwright separate --two", 2)
    assert set(COMMANDS) <= set(complete("stemwright ", 1))


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["seperate"], "No such command 'seperate'. Did you mean 'separate'", "`stemwright --help`"),
        (["separate"], "Missing argument 'INPUT'", "`stemwright separate --help`"),
        (["separate", "a", "--shifts", "many"], "--shifts", "`stemwright separate --help`"),
        (["separate", "a", "--format", "wma"], "wma", "`stemwright separate --help`"),
        (["--nonsense"], "--nonsense", "`stemwright --help`"),
        (["separate", "a", "--format", "mp3", "--bit-depth", "24"], "mp3 has no bit depth", "wav or flac"),
        (["separate", "a", "--bitrate", "128"], "wav has no bit rate", "mp3"),
        (["separate", "a", "--format", "flac", "--bit-depth", "32f"], "flac has no 32-bit float", "wav"),
        (["separate", "a", "--format", "flac", "--clip-mode", "float"], "only wav at 32f", "--bit-depth 32f"),
        (["separate", "a", "--overlap", "1"], "an overlap of 1", "below 1"),
        (["separate", "a", "--two-stems", "x", "--stems", "y"], "--two-stems leaves no room", "alone"),
        (["separate", "a", "--stems", "vocals,"], "empty or repeated", "vocals,drums"),
        (["separate", "a", "-m", "A", "-m", "B", "--weights", "1"], "--weights '1'", "0.6,0.4"),
        (["separate", "a", "--start", "5", "--end", "4"], "--end 4 is not after", "later end"),
        (["separate", "a", "--name-template", "{title}/{stem}.{ext}"], "unknown field", "{track}"),
        (["separate", "a", "--name-template", "../{stem}.{ext}"], "no relative path", "{track}"),
        (["separate", "a", "--name-template", "{track}.{ext}"], "lacks {stem}", "{track}"),
        (["separate", "a", "b", "-o", "-"], "stems of one recording", "-o"),
        (["separate", "a", "-o", "-", "--json"], "no room for --json", "folder"),
        (["separate", "a", "-o", "-", "--format", "stem.mp4"], "stem.mp4 cannot", "folder"),
        (["batch", "a", "-o", "b", "--resume", "--overwrite"], "exclude each other", "one of them"),
    ],
)
def test_wrong_usage_is_two_lines_and_exit_code_2(
    workshop: Workshop, arguments: list[str], message: str, hint: str
) -> None:
    ended = workshop.run(*arguments)
    assert ended.code == 2
    assert ended.shows_error(message, hint)
    assert len(ended.err.splitlines()) == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("song.wav is empty", "give another"), 2),
        (DeviceError("no CUDA here", "use cpu"), 2),
        (ResourceError("no space", "make room"), 1),
        (KeyboardInterrupt(), 130),
        (RuntimeError("boom\nbang"), 1),
    ],
)
def test_errors_are_mapped_once(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(cli, "load_command", fail)
    ended = workshop.run("separate", "x")
    assert ended.code == code
    lines = ended.err.splitlines()
    if isinstance(error, StemwrightError):
        assert lines == [f"error: {error.message}", f"hint: {error.remedy}"]
    elif isinstance(error, RuntimeError):
        assert lines[0] == "error: unexpected RuntimeError: boom bang"
        assert "--verbose" in lines[1]
    assert "Traceback" not in ended.err
    if isinstance(error, KeyboardInterrupt):
        assert lines == ["error: interrupted"]
    else:
        assert "Traceback" in workshop.run("--verbose", "separate", "x").err


def test_verbose_is_an_option_of_every_command() -> None:
    for name in ("separate", "batch"):
        command = load_command(name)
        assert any(parameter.name == "verbose" for parameter in command.params)
    assert run(["separate", "--help"]) == 0


def test_colour_only_on_a_terminal_and_without_no_color(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b" not in workshop.run("nonsense").err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert "\x1b[1;31m" in workshop.run("nonsense").err
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in workshop.run("nonsense").err


def test_control_characters_never_reach_the_terminal() -> None:
    assert printable("a\x1b[31m\nb\udc80") == "a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}b?"


def test_library_warnings_do_not_pollute(workshop: Workshop) -> None:
    code = (
        "import warnings; from stemwright.service.cli import main;"
        " main._quieten(verbose={}); warnings.warn('old')"
    )
    quiet, loud = (
        subprocess.run(
            [sys.executable, "-c", code.format(verbose)], capture_output=True, text=True, check=True
        )
        for verbose in (False, True)
    )
    assert quiet.stderr == ""
    assert "old" in loud.stderr
