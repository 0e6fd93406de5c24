"""From a checkpoint, what the user knows of it and a storage to an installed model."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from stemwright.core.errors import ModelFileError, OptionError, OutputError
from stemwright.models.checkpoints import Checkpoint, content_digest, read_checkpoint
from stemwright.models.checkpoints.arguments import from_json, plain_mapping
from stemwright.models.manifest import UNKNOWN_LICENCE, Licence, Manifest, StorageKind, WeightsOrigin
from stemwright.models.registry import staging
from stemwright.models.registry.catalog import entry_told, entry_with_content
from stemwright.models.registry.converting import Measure, store_weights_as
from stemwright.models.registry.families import family_named, family_of
from stemwright.models.registry.family import Family
from stemwright.models.registry.model_files import file_sha256
from stemwright.models.registry.store import AnyInstalled, ModelStore, checked_name
from stemwright.models.registry.terms import AcceptedTerms, Ask

_CONFIG_KEYS = ("klass", "args", "kwargs", "like")
_EXAMPLE = 'give an object such as {"klass": "demucs.hdemucs.HDemucs", "kwargs": {"sources": ["a", "b"]}}'


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How to build.

    Attributes
    ----------
    name
        Name of the model.
    like
        What the checkpoint is, if it does not say so (`Family.variants`).
    config
        JSON file with what the checkpoint does not say: `klass`, `args`, `kwargs`, `like`.
    storage
        How its weights are stored. `float16` rounds weights that are not float16 already.
    measure
        Measures what `storage` costs; None: it is not measured.
    licence_text
        Terms of weights that are not known.
    replace
        Replace a model of that name.
    """

    name: str
    like: str = ""
    config: Path | None = None
    storage: StorageKind = "float16"
    measure: Measure | None = None
    licence_text: str | None = None
    replace: bool = False


def build_from_checkpoint(
    family_name: str, path: Path, store: ModelStore, *, ask: Ask, options: BuildOptions
) -> AnyInstalled:
    """Make a model of a checkpoint and install it.

    Parameters
    ----------
    family_name
        The family it has to be of.
    path
        The checkpoint.
    store
        Where the model goes.
    ask
        Asked for terms that have to be accepted.
    options
        Name, storage and the rest.

    Raises
    ------
    ModelFileError
        No checkpoint, one of another family, or one that there is no graph for.
    OptionError
        No such family, a configuration that is none, a name that no model can have, no songs to measure on.
    LicenceError
        The terms were not accepted.
    OutputError, ResourceError
        A model of that name exists, or the store cannot be written.
    """
    family = family_named(family_name)
    name = checked_name(options.name)
    checkpoint = _completed(read_checkpoint(path), options)
    if family_of(checkpoint) is not family:
        raise ModelFileError(
            f"{path} is a checkpoint of {family_of(checkpoint).name}, not of {family.name}",
            f"export it with `stemwright models export {family_of(checkpoint).name}`",
        )
    digest = content_digest(checkpoint.tensors)
    known = entry_with_content(digest, checkpoint.like)
    told = entry_told(checkpoint.like) if options.licence_text is None else None
    licence = known.licence if known else told.licence if told else _licence(options.licence_text)
    AcceptedTerms(store.root).require(licence, ask, str(path))
    origin = WeightsOrigin(
        source=str(path),
        file_sha256=file_sha256(path),
        content_sha256=digest,
        verified_by="its content digest is the known one" if known else "nothing: it is the user's own file",
    )
    with staging.name_lock(store.root, name):
        if not options.replace and (store.root / name).exists():
            raise OutputError(f"a model named {name} is installed", "choose another name, or give --force")
        with staging.staged_folder(store.root, name) as folder:
            _build(family, checkpoint, folder, licence, origin, options)
            return store.install_any(folder)


def _build(
    family: Family,
    checkpoint: Checkpoint,
    folder: Path,
    licence: Licence,
    origin: WeightsOrigin,
    options: BuildOptions,
) -> None:
    # Families fill their graphs without loss; what rounds is done to the finished graph, for all alike.
    filled = "float32" if options.storage == "float32" else "float16"
    built = family.build(
        checkpoint,
        name=options.name,
        folder=folder,
        storage="float32" if filled == "float32" else "float16",
        licence=licence,
        origin=origin,
    )
    if not isinstance(built, Manifest):
        if options.storage == "int8" or options.measure is not None:
            raise OptionError(
                f"{options.name} separates nothing: what int8 costs it cannot be measured",
                "give --storage float16, which loses nothing here, and no songs",
            )
        return
    if options.storage != "float32" or options.measure is not None:
        store_weights_as(folder, options.storage, measure=options.measure)


def _licence(text: str | None) -> Licence:
    return UNKNOWN_LICENCE if text is None else Licence(name="as told at export", text=text)


def _completed(checkpoint: Checkpoint, options: BuildOptions) -> Checkpoint:
    """Add to a checkpoint what the user says of it; raises OptionError."""
    config = {} if options.config is None else _read_config(options.config)
    like = options.like or config.get("like", checkpoint.like)
    klass, args = config.get("klass", checkpoint.klass), config.get("args", list(checkpoint.args))
    if not isinstance(like, str) or not isinstance(klass, str) or not isinstance(args, list | tuple):
        raise OptionError(f"{options.config} has values of a wrong type", _EXAMPLE)
    kwargs = config.get("kwargs", dict(checkpoint.kwargs))
    return dataclasses.replace(
        checkpoint, like=like, klass=klass, args=tuple(args), kwargs=plain_mapping(kwargs)
    )


def _read_config(path: Path) -> dict[str, object]:
    try:
        read = from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise OptionError(f"cannot read the configuration {path}: {error}", "check the path") from error
    except ModelFileError as error:
        raise OptionError(f"{path} is no configuration: it is not JSON", _EXAMPLE) from error
    if not isinstance(read, dict) or (unknown := sorted(set(read) - set(_CONFIG_KEYS))):
        what = f"knows no {unknown[0]}" if isinstance(read, dict) else "is no object"
        raise OptionError(f"the configuration {path} {what}", _EXAMPLE)
    return dict(read)
