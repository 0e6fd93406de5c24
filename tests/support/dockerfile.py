"""The Dockerfile as data: what its stages set, run and start; to do the same without an engine."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from tests.support.paths import ROOT


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage: its name, what it stands on, and its instructions in order."""

    name: str
    parent: str
    instructions: tuple[tuple[str, str], ...]

    def of(self, kind: str) -> list[str]:
        """Arguments of all instructions of a kind."""
        return [text for found, text in self.instructions if found == kind]


def stages() -> dict[str, Stage]:
    """Read the Dockerfile."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    found: dict[str, Stage] = {}
    name, parent, instructions = "", "", list[tuple[str, str]]()
    for line in [*lines, "FROM end AS end"]:
        kind, _, rest = line.partition(" ")
        if kind == "FROM":
            if name:
                found[name] = Stage(name=name, parent=parent, instructions=tuple(instructions))
            parent, _, name = rest.partition(" AS ")
            instructions = []
        else:
            instructions.append((kind, rest.strip()))
    return found


def chain(image: str) -> list[Stage]:
    """Return the stages that an image stands on, the lowest first."""
    known = stages()
    found = [known[image]]
    while found[0].parent in known:
        found.insert(0, known[found[0].parent])
    return found


def environment(image: str) -> dict[str, str]:
    """Return the variables that an image sets."""
    return {
        key: value
        for stage in chain(image)
        for text in stage.of("ENV")
        for key, _, value in (pair.partition("=") for pair in shlex.split(text))
    }


def last(image: str, kind: str) -> str:
    """Return the argument of the last instruction of a kind."""
    return [text for stage in chain(image) for text in stage.of(kind)][-1]


def start_command(image: str) -> list[str]:
    """Return entrypoint and command."""
    entry: list[str] = json.loads(last(image, "ENTRYPOINT"))
    return entry + list(json.loads(last(image, "CMD")))


def health_command(image: str) -> list[str]:
    """Return the command of the health check."""
    command: list[str] = json.loads(last(image, "HEALTHCHECK").partition("CMD ")[2])
    return command


def moved(text: str, places: Mapping[str, str]) -> str:
    """Replace the image's folders by others."""
    for place in sorted(places, key=len, reverse=True):
        parts = re.split(rf"(?<![\w/]){re.escape(place)}(?![\w-])", text)
        text = places[place].join(parts)
    return text
