"""Trying a model that is about to be installed, whether it keeps the contract of every model."""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

from stemwright.core.errors import DeviceError, ModelFileError
from stemwright.models.contract import CheckName, check_contract
from stemwright.models.registry.store import InstalledModel, open_model
from stemwright.models.sessions.opening import Session, SessionOptions, open_session

BUDGET_S = 20.0
"""Seconds of checks beyond the first two windows of a model; chosen here: one that works through a
window in 2 s is tried in full, HTDemucs in its two windows alone."""


def try_model(folder: Path, *, progress: Callable[[CheckName], None] | None = None) -> None:
    """Run the contract's checks on a model folder, as far as they take no more than half a minute or so.

    Parameters
    ----------
    folder
        The model's folder, complete.
    progress
        Called with the name of each check before it begins.

    Raises
    ------
    ModelFileError
        The model breaks the contract, or cannot be loaded.
    DeviceError
        No runtime is installed.
    OutOfMemoryError
        The weights do not fit.
    """
    model = open_model(folder)
    if not isinstance(model, InstalledModel):
        raise ModelFileError(f"{folder} is a bag, not a single model", "give a single model")
    with tempfile.TemporaryDirectory() as cache:
        session = exact_session(model, Path(cache))
        try:
            check_contract(model.manifest, session, budget_s=BUDGET_S, progress=progress).require()
        finally:
            session.close()


def exact_session(model: InstalledModel, cache: Path) -> Session:
    """Open the most exact session there is; caches of a staged folder are of no use later."""
    options = SessionOptions(cache_dir=cache, device="cpu", precision="float32", low_memory=True)
    try:
        return open_session(model, options)
    except DeviceError:
        return open_session(model, dataclasses.replace(options, device="auto"))
