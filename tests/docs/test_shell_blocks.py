"""Every shell block of the manual is run here, run by a test that it names, or says why it is not.

The comment above a block tells: `<!-- run -->`, `<!-- by: tests/FILE -->` or `<!-- by hand: reason -->`.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support.paths import EXAMPLES, ROOT
from tests.support.tiny_models import STEMS, install_tiny_model

PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(
    r"(?:<!-- (?P<mark>[^\n]*) -->\n)?```(?:sh|bash|shell|console)\n(?P<text>.*?)^```", re.S | re.M
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A shell block: where it stands, what is said above it, and its lines."""

    place: str
    mark: str
    text: str


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for found in BLOCK.finditer(text):
            line = text.count("\n", 0, found.start("text"))
            place = f"{page.relative_to(ROOT)}:{line}"
            yield Block(place=place, mark=found["mark"] or "", text=found["text"])


ALL = tuple(blocks())


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.place)
def test_block_says_how_it_is_tested(block: Block) -> None:
    kind, _, detail = block.mark.partition(": ")
    assert kind in {"run", "by", "by hand"}, f"{block.place}: what runs this block?"
    if kind == "by":
        assert (ROOT / detail).is_file()
    if kind == "by hand":
        assert len(detail) > 10


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with what the manual's lines speak of."""
    seconds = np.linspace(0, 1, 44100, endpoint=False)
    tone = np.stack([np.sin(2 * np.pi * 220 * seconds), np.sin(2 * np.pi * 330 * seconds)], axis=1) * 0.2
    for name in ("song.mp3", "song.flac", "song.wav", "other.flac", "songs/first.wav", "songs/second.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, tone, 44100)
    track = tmp_path / "MUSDB18-HQ" / "test" / "Artist - Title"
    track.mkdir(parents=True)
    for stem in ("mixture", *STEMS):
        soundfile.write(track / f"{stem}.wav", tone, 44100)
    (tmp_path / "examples").symlink_to(EXAMPLES)
    install_tiny_model(tmp_path / "models", "htdemucs")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in ALL if b.mark == "run"], ids=lambda block: block.place)
def test_block_runs(block: Block, desk: Path) -> None:
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "STEMWRIGHT_MODELS": str(desk / "models"),
        "XDG_CACHE_HOME": str(desk / "cache"),
    }
    command = ["bash", "-euo", "pipefail", "-c", block.text]
    done = subprocess.run(command, cwd=desk, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{block.place}\n{done.stdout}\n{done.stderr}"
