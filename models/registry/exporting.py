"""Writing an installed model out: as a folder, as one file, or as one file that needs no host code."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal

import onnx

from stemwright.core.errors import ModelFileError, OptionError, OutputError
from stemwright.models.graphs.transforms import (
    standalone_graph,
    standalone_model,
    stems_given,
    why_not_standalone,
)
from stemwright.models.manifest import MANIFEST_FILE, Manifest
from stemwright.models.registry.model_files import MANIFEST_KEY, check_hashes, recorded_path
from stemwright.models.registry.staging import storage_error
from stemwright.models.registry.store import (
    AnyInstalled,
    InstalledBag,
    InstalledEmbedder,
    InstalledModel,
    InstalledTagger,
)

_Single = InstalledModel | InstalledTagger | InstalledEmbedder
ExportForm = Literal["folder", "single-file", "standalone"]
# A protobuf message ends at 2 GiB; what is larger needs a folder with weights outside the graph.
_MAX_MESSAGE = 2**31 - 1


def export_model(model: AnyInstalled, out: Path, form: ExportForm, *, replace: bool = False) -> Path:
    """Write a model out; the result appears at once or not at all.

    Parameters
    ----------
    model
        An installed model, tagger or embedder; not a bag, which is several.
    out
        Folder for the form `folder`, else the `.onnx` file to write.
    form
        `folder`: `manifest.json` and the files it records. `single-file`: the graph with the manifest in
        its metadata. `standalone`: besides, the transforms are part of the graph: waveform [B, C, T] in,
        stems [B, S, C, T] out (whole-track normalisation stays outside).
    replace
        Replace what is at `out`.

    Raises
    ------
    ModelFileError
        The model's files are damaged, or too large for one file.
    OptionError
        The model is a bag, or a tagger or embedder is wanted as one file.
    OutputError, ResourceError
        `out` exists, or cannot be written.
    """
    if isinstance(model, InstalledBag):
        members = ", ".join(member.model.name for member in model.members)
        raise OptionError(f"{model.name} is a bag of models", f"export its members: {members}")
    if not isinstance(model, InstalledModel) and form != "folder":
        raise OptionError(f"{model.name} is no model that separates", "save it as a folder")
    if out.exists() and not replace:
        raise OutputError(f"{out} exists already", "choose another name, or give --force")
    if out.exists() and out.is_dir() != (form == "folder"):
        raise OutputError(f"{out} is {'a folder' if out.is_dir() else 'a file'}", "choose another name")
    check_hashes(model.folder, model.manifest.files)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name[:100]}.") as place:
            made = Path(place) / "made"
            if form == "folder" or not isinstance(model, InstalledModel):
                _write_folder(model, made)
                if out.exists():
                    out.rename(Path(place) / "old")
            else:
                _write_file(model, made, form)
            os.replace(made, out)
    except OSError as error:
        raise storage_error(out, error, "choose another place") from error
    return out


def _write_folder(model: _Single, target: Path) -> None:
    for record in model.manifest.files:
        path = target / record.path
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(recorded_path(model.folder, record), path)
    (target / MANIFEST_FILE).write_text(model.manifest.model_dump_json(indent=1), encoding="utf-8")


def _write_file(model: InstalledModel, target: Path, form: ExportForm) -> None:
    proto = onnx.load(str(model.graph_path))
    manifest = model.manifest.model_copy(update={"files": ()})  # a file cannot hold its own hash
    if form == "standalone":
        reason = why_not_standalone(manifest)
        if reason is not None:
            raise OptionError(
                f"{model.name} cannot be one graph from waveform to stems: {reason}",
                "export it as a folder or a single file",
            )
        proto = standalone_model(
            proto,
            manifest.graph,
            channels=manifest.audio.channels,
            stems=stems_given(proto, manifest),
            samples=manifest.plan.input_samples,
        )
        # What was measured was measured on the other graph.
        changes = {"graph": standalone_graph(manifest.graph), "parity": None, "safe_precisions": ()}
        manifest = manifest.model_copy(update=changes)
    _embed(proto, manifest)
    if proto.ByteSize() > _MAX_MESSAGE:
        raise ModelFileError(f"{model.name} is too large for one file", "export it as a folder")
    target.write_bytes(proto.SerializeToString())


def _embed(proto: onnx.ModelProto, manifest: Manifest) -> None:
    """Put the manifest into the metadata, in the place of one that is there."""
    kept = [entry for entry in proto.metadata_props if entry.key != MANIFEST_KEY]
    carried = onnx.StringStringEntryProto(key=MANIFEST_KEY, value=manifest.model_dump_json())
    del proto.metadata_props[:]
    proto.metadata_props.extend([*kept, carried])
