"""Opening the models of a run: by name or path, pulled first where the user wants that."""

import contextlib
from collections.abc import Iterator, Sequence

from stemwright.core.errors import ModelNotFoundError
from stemwright.models.catalog import catalog_entry
from stemwright.models.registry import Installed, ModelStore, open_model
from stemwright.models.separator import Separator
from stemwright.models.sessions import SessionOptions
from stemwright.service.cli.pulling import confirm, pull_in_terminal, someone_there
from stemwright.service.results import model_facts
from stemwright.service.tracks import Engine


def find_models(names: Sequence[str], store: ModelStore, *, accept_licence: bool) -> tuple[Installed, ...]:
    """Return the models, pulling what the catalogue has and the user agrees to.

    Without `--accept-licence` a person at a terminal is asked; where there is none, the error tells
    the command that pulls.

    Raises
    ------
    ModelNotFoundError, ModelFileError, LicenceError, SourceUnavailableError
        A model cannot be had.
    """
    return tuple(_find(name, store, accept_licence=accept_licence) for name in dict.fromkeys(names))


def _find(name: str, store: ModelStore, *, accept_licence: bool) -> Installed:
    try:
        return open_model(name, store)
    except ModelNotFoundError:
        if catalog_entry(name) is None or not (accept_licence or _wants_it(name)):
            raise
    return pull_in_terminal(name, store, accept_licence=accept_licence)


def _wants_it(name: str) -> bool:
    return someone_there() and confirm(f"The model {name} is not installed. Pull it now?", default=True)


@contextlib.contextmanager
def open_engine(
    models: tuple[Installed, ...],
    weights: tuple[float, ...] | None,
    store: ModelStore,
    options: SessionOptions,
) -> Iterator[Engine]:
    """Open the separator of a run, and close it."""
    with Separator.open(models, options=options, weights=weights, store=store) as separator:
        yield Engine(separator=separator, models=model_facts(models, weights))
