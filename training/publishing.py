"""From a run to an installed model: export, parity, storage, manifest, contract.

Whatever fails leaves the store as it was.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError, OutputError
from stemwright.models.manifest import (
    Licence,
    Manifest,
    ParityRecord,
    StorageKind,
    TrainingRecord,
)
from stemwright.models.registry import staging
from stemwright.models.registry.converting import Measure, store_weights_as
from stemwright.models.registry.model_files import finish_manifest
from stemwright.models.registry.store import Installed, ModelStore, checked_name
from stemwright.models.registry.trying import try_model
from stemwright.training.checkpoints import (
    BEST,
    Checkpoints,
    architecture,
    check_architecture,
    load_checkpoint,
)
from stemwright.training.config import PublishSection, TrainConfig
from stemwright.training.data.examples import Example
from stemwright.training.exporting import export_folder, tensors_of
from stemwright.training.run_folder import RunFolder
from stemwright.training.serving import separate_items
from stemwright.training.tasks import Task, task_of

PARITY_DB = -60.0
"""Before weights are rounded, the engine may differ from the network by so much of the stems' peak."""

_PARITY_S = 2.0
_LEVEL = 0.1


@dataclass(frozen=True, kw_only=True)
class PublishOptions:
    """How to publish.

    name
        Of the model.
    storage
        How its weights are stored.
    measure
        Measures what `storage` costs on songs with true stems; None: it is not measured.
    checkpoint
        Which weights; None for the best, or the last where nothing was validated.
    replace
        Replace a model of that name.
    trial
        Hold the model to the contract of all models, which takes up to half a minute.
    note
        Told what is being done.
    """

    name: str
    storage: StorageKind = "float16"
    measure: Measure | None = None
    checkpoint: Path | None = None
    replace: bool = False
    trial: bool = True
    note: Callable[[str], None] = lambda _: None


def publish(run: Path, store: ModelStore, options: PublishOptions) -> Installed:
    """Make a model of a run and install it.

    Parameters
    ----------
    run
        Folder of the run.
    store
        Where the model goes.
    options
        Its name, and the rest.

    Raises
    ------
    InputError
        The folder holds no run.
    ModelFileError
        There is no checkpoint, the engine gives something else than the network, or the model breaks the
        contract.
    OptionError
        A name that no model can have.
    OutputError, ResourceError
        A model of that name exists, or the store cannot be written.
    """
    name = checked_name(options.name)
    folder = RunFolder(run)
    config = folder.config()
    task = task_of(config)
    path = options.checkpoint or best_checkpoint(folder)
    held = load_checkpoint(path)
    check_architecture(
        path, held.get("architecture") or {}, architecture(task.family, task.config, task.stems)
    )
    with staging.name_lock(store.root, name):
        if not options.replace and (store.root / name).exists():
            raise OutputError(f"a model named {name} is installed", "choose another name, or give --force")
        with staging.staged_folder(store.root, name) as staged:
            options.note(f"exporting {path}")
            _export(task, network_of(task, held), staged, options, config.publish)
            finish_manifest(staged, **_statements(config, held, folder))
            if options.trial:
                options.note("trying the model")
                try_model(staged)
            return store.install(staged)


def _export(
    task: Task, net: torch.nn.Module, folder: Path, options: PublishOptions, terms: PublishSection
) -> None:
    """Write a model folder, and into its manifest how near the engine comes to the network."""
    licence = Licence(name=terms.licence_name, text=terms.licence_text, url=terms.licence_url)
    manifest = export_folder(task, tensors_of(net), name=options.name, folder=folder, licence=licence)
    error_db = parity_error_db(task, net, folder, manifest)
    if error_db > PARITY_DB:
        raise ModelFileError(
            f"what the engine gives differs from the network by {error_db:.1f} dB",
            "report it with the run's config.json: the export is at fault",
        )
    if options.storage != "float32":
        options.note(f"storing the weights as {options.storage}")
        store_weights_as(folder, options.storage, measure=options.measure)
        error_db = parity_error_db(task, net, folder, manifest)
    record = ParityRecord(reference="the trained network in float32", max_error_db=round(error_db, 1))
    finish_manifest(folder, parity=record.model_dump())


def best_checkpoint(folder: RunFolder) -> Path:
    """Return the best checkpoint of a run, or its last; raises ModelFileError if there is none."""
    best = folder.checkpoints / BEST
    last = Checkpoints(folder.checkpoints, keep=1).last()
    if best.is_file():
        return best
    if last is None:
        raise ModelFileError(f"the run in {folder.path} has no checkpoint", "train it first")
    return last


def network_of(task: Task, held: dict[str, Any]) -> torch.nn.Module:
    """Return a checkpoint's network, with the averaged weights where there are any; raises ModelFileError."""
    net = task.network()
    average = held.get("average")
    try:
        net.load_state_dict(average["tensors"] if average else held["model"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelFileError("the checkpoint does not fit its network", "take another checkpoint") from error
    return net.eval()


@torch.no_grad()
def parity_error_db(task: Task, net: torch.nn.Module, folder: Path, manifest: Manifest) -> float:
    """Largest difference between the engine and the network on noise, in dB of the stems' peak.

    A factor that the engine fits to the stems of speakers is fitted to the network's too.
    """
    samples = min(task.segment_samples(_PARITY_S), manifest.plan.output_samples)
    generator = np.random.default_rng(0)
    mixture = np.asarray(generator.standard_normal((task.channels, samples)) * _LEVEL, np.float32)
    condition: FloatArray | None = None
    if manifest.query is not None:
        condition = np.asarray(generator.uniform(0, 1, manifest.query.size) ** 4, np.float32)
        condition[0] = 1.0  # above any threshold
    targets = np.zeros((len(task.stems), task.channels, samples), np.float32)
    item = Example(mixture=mixture, targets=targets, condition=condition)
    made = separate_items(folder, [item], folder.parent / "cache")[0]
    asked = None if condition is None else torch.from_numpy(condition)[None]
    expected = task.separate(net, torch.from_numpy(mixture)[None], asked)[0].numpy()
    if manifest.scale_fit is not None:
        axes = (1, 2)
        scale = (made * expected).sum(axis=axes) / np.maximum(np.square(expected).sum(axis=axes), 1e-20)
        expected = expected * scale[:, None, None]
    peak = max(float(np.abs(expected).max()), 1e-9)
    return 20 * float(np.log10(max(float(np.abs(made - expected).max()) / peak, 1e-10)))


def _statements(config: TrainConfig, held: dict[str, Any], folder: RunFolder) -> dict[str, object]:
    """Return what the manifest says of the run."""
    section = config.publish
    record = TrainingRecord(
        commit=code_commit(),
        config=config.model_dump_json(exclude_defaults=True),
        steps=held.get("step", 0),
        seconds=round(held.get("seconds", 0.0), 1),
        validation=_validation(folder, held.get("step", 0)),
        scores_command=section.scores_command,
        experimental=section.experimental,
    )
    said: dict[str, object] = {"training": record.model_dump(), "training_data": section.training_data}
    return said | ({"description": section.description} if section.description else {})


def _validation(folder: RunFolder, step: int) -> dict[str, float]:
    """Scores in the log of the step that the weights are of."""
    found: dict[str, float] = {}
    for row in folder.rows():
        if row["step"] == step and row.get("kind") in ("network", "engine"):
            scores = {k: v for k, v in row.items() if k not in ("step", "kind", "time")}
            found |= {name: round(value, 3) for name, value in scores.items() if isinstance(value, float)}
    return found


def code_commit() -> str:
    """Return the commit of stemwright's code, empty where it is not a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():  # installed: a repository around it is somebody else's
        return ""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
