"""Options that `separate` and `batch` share: what the user can choose, without loading what does it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from stemwright.core.errors import OptionError

DEFAULT_MODEL = "htdemucs"
MAX_STEMS = 16
"""Most automatic stems of a level; models.query.queries has the same number."""
DEFAULT_LEVEL = 2

BitDepth = Literal["16", "24", "32f"]
ClipMode = Literal["shared", "clamp", "float"]
RemainderMode = Literal["subtract", "network"]
Container = Literal["wav", "flac", "mp3", "ogg", "m4a", "stem.mp4"]
Precision = Literal["auto", "float32", "bfloat16", "float16", "int8"]

ModelsOption = Annotated[
    list[str],
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Model, by name or path; several are averaged.",
        show_default=True,
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option("--weights", metavar="W,W", help="Weight of each of several models. Default: equal."),
]
StemsOption = Annotated[
    str | None,
    typer.Option("--stems", metavar="A,B", help="Write only these stems; what no stem needs is not run."),
]
TwoStemsOption = Annotated[
    str | None,
    typer.Option("--two-stems", metavar="STEM", help="Write STEM and no_STEM, the mixture without it."),
]
ResidualOption = Annotated[
    bool,
    typer.Option("--residual", help="Write also `residual`: the mixture minus all stems that are written."),
]
RemainderOption = Annotated[
    RemainderMode | None,
    typer.Option(
        "--remainder",
        help="The stem that is a model's remainder: subtract the others from the mixture (the default), or"
        " take what the network gives.",
    ),
]
ClipModeOption = Annotated[
    ClipMode,
    typer.Option(
        "--clip-mode",
        help="Beyond full scale: one gain for all stems (their sum stays the mixture times it), clamp each"
        " sample, or write 32-bit float, which needs neither.",
    ),
]
ShiftsOption = Annotated[
    int, typer.Option("--shifts", min=0, max=100, metavar="N", help="Average over N random time shifts.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of the shifts.")]
OverlapOption = Annotated[
    float | None,
    typer.Option("--overlap", metavar="F", help="Overlap of chunks, 0 to 1 (below 1). Default: the model's."),
]
BitDepthOption = Annotated[
    BitDepth | None,
    typer.Option("--bit-depth", help="Bits per sample of wav and flac; 32f is float, wav only. Default: 16."),
]
BitrateOption = Annotated[
    int | None,
    typer.Option("--bitrate", min=8, max=1024, metavar="KBPS", help="Bit rate of mp3, ogg and m4a."),
]
DeviceOption = Annotated[
    str,
    typer.Option("--device", metavar="DEVICE", help="auto, cpu, openvino, cuda, cuda:N or tensorrt."),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option("--precision", help="float32 is exact; auto goes lower only where that is measured safe."),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", min=1, metavar="N", help="CPU threads. Default: the cores there are."),
]
LowMemoryOption = Annotated[bool, typer.Option("--low-memory", help="Use less memory and more time.")]
AcceptLicenceOption = Annotated[
    bool,
    typer.Option("--accept-licence", help="Accept the model's licence and pull it if it is not installed."),
]
QueryOption = Annotated[
    list[str] | None,
    typer.Option(
        "--query",
        metavar="SOUND",
        help="For models that are asked: a class of sound, by name, id or words, such as 'dog bark';"
        " a stem for each.",
    ),
]
QueryAudioOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--query-audio",
        metavar="PATH",
        help="For models that are asked: a recording of the sound, or a folder of them; a stem for each.",
    ),
]
ServerOption = Annotated[
    str,
    typer.Option(
        "--server", metavar="URL", envvar="STEMWRIGHT_SERVER", help="Address of the stemwright service."
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        envvar="STEMWRIGHT_API_KEY",
        help="API key of the service; better given by the variable.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print results as JSON.")]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What was chosen by the options that `separate` and `batch` share."""

    models: tuple[str, ...]
    weights: tuple[float, ...] | None
    stems: tuple[str, ...] | None
    two_stems: str | None
    residual: bool
    container: Container
    bit_depth: BitDepth | None
    bitrate: int | None
    clip_mode: ClipMode
    shifts: int
    seed: int
    overlap: float | None
    device: str
    precision: Precision
    threads: int | None
    low_memory: bool
    accept_licence: bool
    json_lines: bool
    remainder: RemainderMode | None = None
    queries: tuple[str, ...] = ()
    query_audio: tuple[Path, ...] = ()
    auto: bool = False
    levels: tuple[int, ...] = ()
    max_stems: int = MAX_STEMS

    def __post_init__(self) -> None:
        """Check what needs no model.

        Raises
        ------
        OptionError
            Options that contradict each other.
        """
        if self.two_stems is not None and (self.stems is not None or self.residual):
            raise OptionError(
                "--two-stems leaves no room for --stems or --residual", "use it alone, or leave it out"
            )
        self._check_queries()
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise OptionError(f"an overlap of {self.overlap:g} is not possible", "use 0 or more, below 1")
        lossless = self.container in ("wav", "flac")
        if self.bit_depth is not None and not lossless:
            raise OptionError(
                f"{self.container} has no bit depth", "leave --bit-depth out, or use wav or flac"
            )
        if self.bitrate is not None and lossless:
            raise OptionError(
                f"{self.container} has no bit rate", "leave --bitrate out, or use mp3, ogg or m4a"
            )
        if self.clip_mode == "float" and (self.container != "wav" or self.bit_depth not in (None, "32f")):
            raise OptionError(
                "only wav at 32f holds samples beyond full scale", "use --format wav --bit-depth 32f"
            )
        if self.bit_depth == "32f" and self.container != "wav":
            raise OptionError(f"{self.container} has no 32-bit float", "use --format wav or --bit-depth 24")

    def _check_queries(self) -> None:
        asked = self.queries or self.query_audio or self.auto
        if self.auto and (self.queries or self.query_audio):
            raise OptionError(
                "--auto finds the sounds itself, which leaves no room for --query or --query-audio",
                "use one way of asking",
            )
        if self.levels and not self.auto:
            raise OptionError("--level is for --auto", "add --auto, or leave --level out")
        if asked and (self.stems is not None or self.two_stems is not None):
            raise OptionError(
                "the stems of queries are the queries themselves", "leave --stems and --two-stems out"
            )


def split_list(text: str | None) -> tuple[str, ...] | None:
    """Split `a,b`; None stays None.

    Raises
    ------
    OptionError
        An empty or repeated item.
    """
    if text is None:
        return None
    items = tuple(item.strip() for item in text.split(","))
    if "" in items or len(set(items)) != len(items):
        raise OptionError(f"the list {text!r} has an empty or repeated item", "write it like vocals,drums")
    return items


def parse_weights(text: str | None, models: int) -> tuple[float, ...] | None:
    """Read `--weights`.

    Raises
    ------
    OptionError
        Not one non-negative number for each model, or all are zero.
    """
    if text is None:
        return None
    try:
        weights = tuple(float(item) for item in text.split(","))
    except ValueError:
        weights = ()
    if len(weights) != models or not all(0 <= w < float("inf") for w in weights) or not sum(weights):
        raise OptionError(
            f"--weights {text!r} is not one number for each of {models} models", "write it like 0.6,0.4"
        )
    return weights
