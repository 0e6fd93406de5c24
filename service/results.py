"""What is known after a track was separated: the content of `result.json`."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stemwright.core.audio.source import AudioInfo
from stemwright.models.registry.store import Installed

RESULT_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class LicenceFacts:
    """Terms of the weights that made the stems."""

    name: str
    text: str
    url: str


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A model that took part, by the name it was asked for.

    Parameters
    ----------
    sha256
        Of the graph file; of a bag, over its members.
    weight
        Its share of the average, all models together 1.
    """

    name: str
    version: str
    sha256: str
    licence: LicenceFacts
    weight: float


@dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """A network that was loaded, and on what it runs."""

    name: str
    provider: str
    device: str
    runtime: str
    precision: str
    threads: int
    chosen_because: str


@dataclass(frozen=True, kw_only=True)
class InputFacts:
    """The recording."""

    name: str
    codec: str
    container: str
    bit_depth: int | None
    sample_rate: int
    channels: int
    layout: tuple[str, ...]
    start_s: float
    frames: int


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """A file that was written: its path beside the result file, and the stems in it."""

    path: str
    stems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class QueryFacts:
    """A stem that was asked for, and when it was heard.

    Parameters
    ----------
    stem
        Its name.
    asked
        The user's words, the path of an example, or the class's name for an automatic stem.
    kind
        `class`, `example` or `automatic`.
    mid, class_name
        The class of sound, None for an example.
    level
        Level of the ontology, of an automatic stem.
    example_sha256
        SHA-256 over the files of an example.
    active
        Begin and end in seconds of where it was heard; the stem is silent elsewhere. None at all means
        that what was asked for is not in the recording.
    """

    stem: str
    asked: str
    kind: str
    mid: str | None
    class_name: str | None
    level: int | None
    example_sha256: str | None
    active: tuple[tuple[float, float], ...]

    @property
    def inactive(self) -> bool:
        """Whether it was heard nowhere, so that the stem is silence."""
        return not self.active


@dataclass(frozen=True, kw_only=True)
class TrackResult:
    """Outcome of one track.

    Parameters
    ----------
    seconds
        Duration of the audio.
    wall_seconds
        Time from opening the recording to all files complete, without waiting for other tracks' turns at
        the network.
    real_time_factor
        `wall_seconds / seconds`: below 1 is faster than playing.
    gain
        Factor that all stems were multiplied with so that none clips; 1 in clip modes `clamp` and `float`.
    peak
        Largest magnitude over the stems before the gain.
    clamped_samples
        Samples set to full scale (clip mode `clamp`).
    remainder
        How the stem that is the model's remainder was made, `subtract` or `network`; None if there is none.
    queries
        For models that are asked: what the stems stand for, and when they were heard.
    options
        What was asked for.
    """

    schema: int = RESULT_SCHEMA
    tool: str = "stemwright"
    tool_version: str
    models: tuple[ModelFacts, ...]
    networks: tuple[NetworkFacts, ...]
    input: InputFacts
    seconds: float
    wall_seconds: float
    real_time_factor: float
    clip_mode: str
    gain: float
    peak: float
    clamped_samples: int
    files: tuple[FileFacts, ...]
    remainder: str | None = None
    queries: tuple[QueryFacts, ...] = ()
    options: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready data."""
        return dataclasses.asdict(self)

    def as_json(self) -> str:
        """Return the text of `result.json`."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"


def model_facts(models: tuple[Installed, ...], weights: tuple[float, ...] | None) -> tuple[ModelFacts, ...]:
    """Describe the models of a run; weights as asked for, None for equal ones."""
    factors = weights or (1.0,) * len(models)
    return tuple(
        ModelFacts(
            name=model.name,
            version=model.manifest.version,
            sha256=model.sha256,
            licence=LicenceFacts(
                name=model.manifest.licence.name,
                text=model.manifest.licence.text,
                url=model.manifest.licence.url,
            ),
            weight=factor / sum(factors),
        )
        for model, factor in zip(models, factors, strict=True)
    )


def input_facts(name: str, info: AudioInfo, frames: int) -> InputFacts:
    """Describe a recording whose exact length is known."""
    return InputFacts(
        name=name,
        codec=info.codec,
        container=info.container,
        bit_depth=info.bit_depth,
        sample_rate=info.sample_rate,
        channels=info.channels,
        layout=info.layout,
        start_s=info.start_s,
        frames=frames,
    )
