"""From what the user chose to what the engine takes; and opening the models, pulled first if wanted."""

import contextlib
from collections.abc import Iterator

import typer

from stemwright.core.audio.encode import OutputFormat
from stemwright.core.errors import ModelNotFoundError, OptionError
from stemwright.models.registry.catalog import catalog_entry
from stemwright.models.registry.store import Installed, ModelStore, open_model, separating
from stemwright.models.separation.separator import SeparationOptions, Separator
from stemwright.models.sessions.opening import SessionOptions
from stemwright.service.asking import Asker, Wishes
from stemwright.service.cli.options import DEFAULT_LEVEL, BitDepth, Choices
from stemwright.service.places import Layout
from stemwright.service.results import model_facts
from stemwright.service.tracks import Engine, TrackOptions


def track_options(
    choices: Choices,
    *,
    layout: Layout | None = None,
    default_depth: BitDepth = "16",
    start_s: float = 0.0,
    end_s: float | None = None,
) -> TrackOptions:
    """Build the options of all tracks of a run.

    Parameters
    ----------
    choices
        What was chosen.
    layout
        How stems become files; None for what the container says.
    default_depth
        Bits per sample where none were chosen.
    start_s, end_s
        Excerpt in seconds.

    Raises
    ------
    OptionError
        The excerpt ends before it starts.
    """
    if end_s is not None and end_s <= start_s:
        raise OptionError(f"--end {end_s:g} is not after --start {start_s:g}", "choose a later end")
    djs = choices.container == "stem.mp4"
    return TrackOptions(
        separation=SeparationOptions(
            stems=choices.stems,
            complement_of=choices.two_stems,
            residual=choices.residual,
            remainder=choices.remainder,
            overlap=choices.overlap,
            shifts=choices.shifts,
            seed=choices.seed,
        ),
        fmt=_format(choices, default_depth),
        layout=layout or ("stem.mp4" if djs else "file_per_stem"),
        clip_mode=choices.clip_mode,
        start_s=start_s,
        end_s=end_s,
    )


def _format(choices: Choices, default_depth: BitDepth) -> OutputFormat:
    """Return the format of the stem files; for `stem.mp4` that of the float files it is made from."""
    if choices.container == "stem.mp4":
        return OutputFormat(container="wav", bit_depth="32f", bitrate_kbps=choices.bitrate)
    depth = "32f" if choices.clip_mode == "float" else choices.bit_depth or default_depth
    if choices.container not in ("wav", "flac"):
        depth = "16"  # has no meaning there
    return OutputFormat(container=choices.container, bit_depth=depth, bitrate_kbps=choices.bitrate)


def session_options(choices: Choices) -> SessionOptions:
    """Return the options of the networks' sessions."""
    return SessionOptions(
        device=choices.device,
        precision=choices.precision,
        threads=choices.threads,
        low_memory=choices.low_memory,
    )


def open_asker(choices: Choices, engine: Engine) -> Asker:
    """Prepare the queries of a run; raises what Asker does."""
    levels = (choices.levels or (DEFAULT_LEVEL,)) if choices.auto else ()
    wishes = Wishes(
        labels=choices.queries, examples=choices.query_audio, levels=levels, max_stems=choices.max_stems
    )
    return Asker(wishes, engine.installed, options=session_options(choices), store=ModelStore())


@contextlib.contextmanager
def open_engine(choices: Choices) -> Iterator[Engine]:
    """Open the models of a run, pulled first where the user wants that, and close them.

    Without `--accept-licence` a person at a terminal is asked; where there is none, the error tells
    the command that pulls.

    Raises
    ------
    ModelNotFoundError, ModelFileError, LicenceError, SourceUnavailableError
        A model cannot be had.
    OptionError
        Models that have no stem in common.
    """
    store = ModelStore()
    models = find_models(choices, store)
    options = session_options(choices)
    with Separator.open(models, options=options, weights=choices.weights, store=store) as separator:
        yield Engine(separator=separator, models=model_facts(models, choices.weights), installed=models)


def find_models(choices: Choices, store: ModelStore | None = None) -> tuple[Installed, ...]:
    """Find the models of a run, pulled first where the user wants that; raises what open_engine does."""
    store = store or ModelStore()
    return tuple(_find(name, store, accept_licence=choices.accept_licence) for name in choices.models)


def _find(name: str, store: ModelStore, *, accept_licence: bool) -> Installed:
    try:
        return open_model(name, store)
    except ModelNotFoundError:
        if catalog_entry(name) is None:
            raise
        from stemwright.service.cli import pulling  # seldom needed, and it loads a web client

        if not (accept_licence or (pulling.someone_there() and _wants_it(name))):
            raise
    return separating(pulling.pull_in_terminal(name, store, accept_licence=accept_licence))


def _wants_it(name: str) -> bool:
    return typer.confirm(f"The model {name} is not installed. Pull it now?", default=True, err=True)
