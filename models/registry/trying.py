"""Trying a model that is about to be installed, whether it keeps the contract of every model."""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from stemwright.core.errors import DeviceError, ModelFileError
from stemwright.models.contract import CheckName, check_contract
from stemwright.models.embedders.session import EmbedderSession
from stemwright.models.registry.store import (
    InstalledEmbedder,
    InstalledModel,
    open_any,
    open_model,
    open_tagger,
)
from stemwright.models.sessions.opening import Session, SessionOptions, open_session
from stemwright.models.taggers.session import TaggerSession

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


def try_tagger(folder: Path) -> None:
    """Let a tagger hear a second of noise.

    Raises
    ------
    ModelFileError
        It cannot be loaded, does not fit its manifest, or gives what are no probabilities.
    DeviceError
        No runtime is installed.
    """
    tagger = open_tagger(folder)
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (1, tagger.manifest.audio.sample_rate))
    try:
        session = TaggerSession(tagger, SessionOptions(device="cpu"))
    except DeviceError:
        session = TaggerSession(tagger, SessionOptions())
    try:
        heard = session.segment(np.asarray(noise, np.float32), tagger.manifest.audio.sample_rate)
    finally:
        session.close()
    values = heard.probabilities
    if not (np.isfinite(heard.embedding).all() and (values >= 0).all() and (values <= 1).all()):
        raise ModelFileError(
            f"the tagger in {folder} gives what are no probabilities", "check the weights that it was made of"
        )


def try_embedder(folder: Path) -> None:
    """Let an embedder hear a second of noise.

    Raises
    ------
    ModelFileError
        It cannot be loaded, does not fit its manifest, or gives values that are not finite.
    DeviceError
        No runtime is installed.
    """
    embedder = open_any(folder)
    if not isinstance(embedder, InstalledEmbedder):
        raise ModelFileError(f"{folder} is a {embedder.manifest.kind}, not an embedder", "give an embedder")
    rate = embedder.manifest.audio.sample_rate
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (1, rate)).astype(np.float32)
    try:
        session = EmbedderSession(embedder, SessionOptions(device="cpu"))
    except DeviceError:
        session = EmbedderSession(embedder, SessionOptions())
    try:
        session.embed(noise, rate)
    finally:
        session.close()


def exact_session(model: InstalledModel, cache: Path) -> Session:
    """Open the most exact session there is; caches of a staged folder are of no use later."""
    options = SessionOptions(cache_dir=cache, device="cpu", precision="float32", low_memory=True)
    try:
        return open_session(model, options)
    except DeviceError:
        return open_session(model, dataclasses.replace(options, device="auto"))
