"""Options that `separate` and `batch` share, and what they mean for the engine."""

from pathlib import Path
from typing import Annotated, Literal

import platformdirs
import typer

from stemwright.core.audio.encode import OutputFormat
from stemwright.core.errors import OptionError
from stemwright.models.separator import SeparationOptions
from stemwright.models.sessions import PrecisionChoice, SessionOptions
from stemwright.service.stem_files import ClipMode
from stemwright.service.tracks import Layout, TrackOptions

DEFAULT_MODEL = "htdemucs"

BitDepth = Literal["16", "24", "32f"]
Container = Literal["wav", "flac", "mp3", "ogg", "m4a", "stem.mp4"]

_AUDIO = "Separation"
_FILES = "Files"
_MACHINE = "Machine"

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
    typer.Option("--residual", help="Write also `residual`: the mixture minus all stems of the model."),
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
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the shifts.")]
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
    PrecisionChoice,
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
JsonOption = Annotated[bool, typer.Option("--json", help="Print results as JSON.")]


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


def track_options(
    *,
    stems: str | None,
    two_stems: str | None,
    residual: bool,
    overlap: float | None,
    shifts: int,
    seed: int,
    fmt: OutputFormat,
    layout: Layout,
    clip_mode: ClipMode,
    start_s: float = 0.0,
    end_s: float | None = None,
) -> TrackOptions:
    """Build the options of all tracks of a run.

    Raises
    ------
    OptionError
        Options that contradict each other.
    """
    if stems is not None and two_stems is not None:
        raise OptionError("--stems and --two-stems exclude each other", "use one of them")
    if residual and two_stems is not None:
        raise OptionError("--two-stems leaves no residual", "leave --residual out")
    if overlap is not None and not 0 <= overlap < 1:
        raise OptionError(f"an overlap of {overlap:g} is not possible", "use 0 or more, below 1")
    if end_s is not None and end_s <= start_s:
        raise OptionError(f"--end {end_s:g} is not after --start {start_s:g}", "choose a later end")
    separation = SeparationOptions(
        stems=split_list(stems),
        complement_of=two_stems,
        residual=residual,
        overlap=overlap,
        shifts=shifts,
        seed=seed,
    )
    return TrackOptions(
        separation=separation, fmt=fmt, layout=layout, clip_mode=clip_mode, start_s=start_s, end_s=end_s
    )


def session_options(
    *, device: str, precision: PrecisionChoice, threads: int | None, low_memory: bool
) -> SessionOptions:
    """Build the session's options, with the user's cache folder."""
    return SessionOptions(
        device=device,
        precision=precision,
        threads=threads,
        low_memory=low_memory,
        cache_dir=Path(platformdirs.user_cache_path("stemwright")),
    )


def output_format(
    *,
    container: Container,
    bit_depth: BitDepth | None,
    bitrate: int | None,
    clip_mode: ClipMode,
    default_depth: BitDepth = "16",
) -> OutputFormat:
    """Build the format of the stem files; for `stem.mp4` that of the float files it is made from.

    Raises
    ------
    OptionError
        A bit depth, bit rate or clip mode that the container does not have.
    """
    lossless = container in ("wav", "flac")
    if bit_depth is not None and not lossless:
        raise OptionError(f"{container} has no bit depth", "leave --bit-depth out, or use wav or flac")
    if bitrate is not None and lossless:
        raise OptionError(f"{container} has no bit rate", "leave --bitrate out, or use mp3, ogg or m4a")
    if clip_mode == "float":
        if container != "wav" or bit_depth not in (None, "32f"):
            raise OptionError(
                "only wav at 32f holds samples beyond full scale", "use --format wav --bit-depth 32f"
            )
        bit_depth = "32f"
    if bit_depth == "32f" and container != "wav":
        raise OptionError(f"{container} has no 32-bit float", "use --format wav or --bit-depth 24")
    if container == "stem.mp4":
        return OutputFormat(container="wav", bit_depth="32f", bitrate_kbps=bitrate)
    return OutputFormat(container=container, bit_depth=bit_depth or default_depth, bitrate_kbps=bitrate)
