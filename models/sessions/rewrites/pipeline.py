"""Rewriting a model's graph for a provider when it is loaded, once, with the result kept."""

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx.external_data_helper import set_external_data

from stemwright.core.errors import ModelFileError
from stemwright.models.sessions.rewrites.attention import fuse_attention
from stemwright.models.sessions.rewrites.convolutions import halve_gates, unroll_transposed
from stemwright.models.sessions.rewrites.folding import fold_constants, fold_for_one
from stemwright.models.sessions.rewrites.graph import EditableGraph
from stemwright.models.sessions.rewrites.moves import cancel_moves
from stemwright.models.sessions.rewrites.norms import fold_gated_norms, layer_norms, plain_norms
from stemwright.models.sessions.rewrites.quantise import compress_layers, quantise_layers

_LOG = logging.getLogger(__name__)
_KEPT_S = 90 * 86400.0
_LARGEST_FILE = 2**31 - (64 << 20)  # a protobuf message ends at 2 GiB
_OWN_PLACE = 1024  # bytes from which a tensor is stored outside of too large a graph
_ALIGNMENT = 4096


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """A named change of a graph.

    Parameters
    ----------
    name
        Shown in a session's facts.
    version
        Raised whenever the result changes, so that results kept from before are not used.
    apply
        Changes the graph and returns in how many places.
    """

    name: str
    version: int
    apply: Callable[[EditableGraph], int]


CONSTANTS = Rewrite(name="constants", version=1, apply=fold_for_one)
WEIGHTS = Rewrite(name="weights", version=1, apply=fold_constants)
ATTENTION = Rewrite(name="attention", version=1, apply=fuse_attention)
GATED_NORMS = Rewrite(name="gated-norms", version=3, apply=fold_gated_norms)
LAYER_NORMS = Rewrite(name="layer-norms", version=1, apply=layer_norms)
PLAIN_NORMS = Rewrite(name="plain-norms", version=2, apply=plain_norms)
GATES = Rewrite(name="gates", version=1, apply=halve_gates)
TRANSPOSED = Rewrite(name="transposed-convolutions", version=1, apply=unroll_transposed)
MOVES = Rewrite(name="moves", version=1, apply=cancel_moves)
INT8_WEIGHTS = Rewrite(name="int8-weights", version=1, apply=compress_layers)
INT8 = Rewrite(name="int8-layers", version=1, apply=quantise_layers)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that is done to a graph.

    Parameters
    ----------
    rewrites
        What to apply, in order.
    runtime
        Library and version that the result is for.
    finish
        Last step, on the whole model; None for nothing.
    finish_key
        What the last step depends on, with its version.
    """

    rewrites: tuple[Rewrite, ...]
    runtime: str
    finish: Callable[[onnx.ModelProto], onnx.ModelProto] | None = None
    finish_key: str = ""


@dataclass(frozen=True, kw_only=True)
class PreparedGraph:
    """A graph file ready to be loaded.

    Parameters
    ----------
    path
        The file.
    rewrites
        Names of the rewrites that changed something, each with its number of places.
    key
        What the file depends on, as a name for caches of the compiled graph.
    """

    path: Path
    rewrites: tuple[str, ...]
    key: str


@contextlib.contextmanager
def prepared_graph(source: Path, sha256: str, plan: Plan, *, cache_dir: Path) -> Iterator[PreparedGraph]:
    """Rewrite a graph, or find it in the cache.

    Parameters
    ----------
    source
        The model's ONNX file.
    sha256
        Its hash, in hex.
    plan
        What is done to it.
    cache_dir
        Where results are kept. If it cannot be written the result lives as long as the context.

    Raises
    ------
    ModelFileError
        The file is not ONNX.
    """
    key = _key(sha256, plan)
    folder = cache_dir / "graphs"
    kept = _find(folder, key)
    if kept is not None:
        yield kept
        return
    model, changed = apply_rewrites(_load(source), plan.rewrites)
    if plan.finish is not None:
        model = plan.finish(model)
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            prepared = _store(folder, key, model, changed)
            _drop_old(folder)
        except OSError as error:
            _LOG.warning("cannot keep the rewritten graph in %s: %s", folder, error)
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stemwright-")))
            prepared = _store(scratch, key, model, changed)
        del model
        yield prepared


def apply_rewrites(
    model: onnx.ModelProto, rewrites: tuple[Rewrite, ...]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Rewrite a graph in memory.

    Returns
    -------
    tuple
        The new model and the rewrites that changed something. A graph with control flow or
        functions, whose inner names nobody here follows, is given back as it is.
    """
    if not _is_plain(model):
        return model, ()
    graph = EditableGraph(model)
    changed: list[str] = []
    for rewrite in rewrites:
        started = time.monotonic()
        places = rewrite.apply(graph)
        _LOG.debug("%s: %d places, %.2f s", rewrite.name, places, time.monotonic() - started)
        if places:
            changed.append(f"{rewrite.name} x{places}")
    return graph.to_model(), tuple(changed)


def _load(source: Path) -> onnx.ModelProto:
    try:
        return onnx.load(str(source))
    except Exception as error:  # protobuf, onnx and the file system raise kinds of their own
        raise ModelFileError(
            f"{source} is not a readable ONNX file", "verify the model, or import or pull it again"
        ) from error


def _is_plain(model: onnx.ModelProto) -> bool:
    if model.functions or model.graph.sparse_initializer:
        return False
    inner = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    return not any(entry.type in inner for node in model.graph.node for entry in node.attribute)


def _key(sha256: str, plan: Plan) -> str:
    names = [f"{rewrite.name}={rewrite.version}" for rewrite in plan.rewrites]
    parts = [sha256, plan.runtime, onnx.__version__, *names, plan.finish_key]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _find(folder: Path, key: str) -> PreparedGraph | None:
    path, note, weights = _places(folder, key)
    try:
        told = json.loads(note.read_text())
        if path.stat().st_size != told["size"]:
            return None
        if told.get("weights") and weights.stat().st_size != told["weights"]:
            return None
        # The note's time tells when the graph was last used; the graph's own time is left alone,
        # because OpenVINO takes it into the name of what it compiled.
        with contextlib.suppress(OSError):
            os.utime(note)
        return PreparedGraph(path=path, rewrites=tuple(told["rewrites"]), key=key)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _places(folder: Path, key: str) -> tuple[Path, Path, Path]:
    """Graph, note, and the weights of a graph that is too large for one file."""
    return folder / f"{key}.onnx", folder / f"{key}.json", folder / f"{key}.weights"


def _store(folder: Path, key: str, model: onnx.ModelProto, changed: tuple[str, ...]) -> PreparedGraph:
    path, note, weights = _places(folder, key)
    told: dict[str, object] = {"rewrites": changed}
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) > _LARGEST_FILE:
        told["weights"] = _write(weights, _moved_out(model, weights.name))
    told["size"] = _write(path, [model.SerializeToString()])
    _write(note, [json.dumps(told).encode()])
    return PreparedGraph(path=path, rewrites=changed, key=key)


def _moved_out(model: onnx.ModelProto, location: str) -> Iterator[bytes]:
    """Take the large tensors out of a model, and yield what the file of that name is to hold."""
    offset = 0
    for tensor in model.graph.initializer:
        data = tensor.raw_data
        if len(data) < _OWN_PLACE:
            continue
        padding = -offset % _ALIGNMENT
        set_external_data(tensor, location, offset=offset + padding, length=len(data))
        tensor.ClearField("raw_data")
        yield bytes(padding)
        yield data
        offset += padding + len(data)


def _write(path: Path, parts: Iterable[bytes]) -> int:
    """Write all or nothing, for another process may be reading the same name; returns the size."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            size = sum(file.write(part) for part in parts)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    return size


def _drop_old(folder: Path) -> None:
    """Remove what was not used for a season: every new runtime version leaves files behind."""
    oldest = time.time() - _KEPT_S
    for note in folder.glob("*.json"):
        with contextlib.suppress(OSError):
            if note.stat().st_mtime < oldest:
                for path in _places(folder, note.stem):
                    path.unlink(missing_ok=True)
