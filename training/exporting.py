"""From trained weights to a model folder that the engine opens.

A network whose graph is shipped gets it from its family; of any other size the graph is exported here.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import torch
from torch import nn

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints import content_digest
from stemwright.models.conv_tasnet.building import manifest_of_variant
from stemwright.models.conv_tasnet.graph import build_graph
from stemwright.models.conv_tasnet.origins import Variant
from stemwright.models.demucs.architectures import AUDIO, NORMALISATION
from stemwright.models.demucs.export import export_core
from stemwright.models.demucs.network import build_network
from stemwright.models.graphs.weightless import WeightlessGraph
from stemwright.models.ibm_cnn.architectures import GRAPH_PATH
from stemwright.models.ibm_cnn.building import make_manifest as ibm_cnn_manifest
from stemwright.models.ibm_cnn.configs import IBMCNNConfig
from stemwright.models.ibm_cnn.export import export_masks
from stemwright.models.ibm_cnn.network import IBMCNN, centred
from stemwright.models.manifest import UNKNOWN_LICENCE, Licence, Manifest, WeightsOrigin
from stemwright.models.registry.model_folder import manifest_of, write_model_folder
from stemwright.models.universal.architectures import graph_path
from stemwright.models.universal.building import make_manifest as universal_manifest
from stemwright.models.universal.configs import ResUNetConfig
from stemwright.models.universal.export import export_mask
from stemwright.models.universal.folding import serving_tensors
from stemwright.models.universal.network import serving_form
from stemwright.training.tasks import Task
from stemwright.training.tasks.conv_tasnet import ConvTasNetTask
from stemwright.training.tasks.demucs import DemucsTask
from stemwright.training.tasks.ibm_cnn import IBMCNNTask
from stemwright.training.tasks.universal import UniversalTask

_Net = TypeVar("_Net", bound=nn.Module)
Tensors = Mapping[str, FloatArray]
_Made = tuple[onnx.ModelProto, Manifest]


def tensors_of(net: nn.Module) -> dict[str, FloatArray]:
    """Return a network's tensors of floats by name."""
    return {
        name: tensor.detach().float().cpu().numpy()
        for name, tensor in net.state_dict().items()
        if tensor.is_floating_point()
    }


def export_folder(
    task: Task,
    tensors: Tensors,
    *,
    name: str,
    folder: Path,
    licence: Licence = UNKNOWN_LICENCE,
    source: str = "",
) -> Manifest:
    """Write `model.onnx` and `manifest.json`, float32, into an existing folder.

    Parameters
    ----------
    task
        What was trained.
    tensors
        The weights, by the names of the network's state dict.
    name
        Name of the model.
    folder
        Where the files go.
    licence
        Terms of the weights.
    source
        Where they come from.

    Raises
    ------
    ModelFileError
        The network cannot be served: nothing makes conditions of its size, or a weight is no number.
    OutputError
        The folder cannot be written.
    """
    origin = WeightsOrigin(source=source, content_sha256=content_digest(tensors))
    graph, manifest = _maker(task)(tensors, name, licence, origin)
    return write_model_folder(folder, graph, manifest)


def _maker(task: Task) -> Callable[[Tensors, str, Licence, WeightsOrigin], _Made]:
    match task:
        case ConvTasNetTask():
            return lambda *given: _conv_tasnet(task, *given)
        case IBMCNNTask():
            return lambda *given: _ibm_cnn(task, *given)
        case UniversalTask():
            return lambda *given: _universal(task, *given)
        case DemucsTask():
            return lambda *given: _demucs(task, *given)
        case _:
            raise TypeError(f"no export of {task.family}")


def _conv_tasnet(
    task: ConvTasNetTask, tensors: Tensors, name: str, licence: Licence, origin: WeightsOrigin
) -> _Made:
    variant = Variant(naming="stemwright", config=task.config, stems=task.named_stems)
    manifest = manifest_of_variant(variant, name=name, licence=licence, origin=origin)
    return build_graph(task.config, tensors), manifest


def _ibm_cnn(task: IBMCNNTask, tensors: Tensors, name: str, licence: Licence, origin: WeightsOrigin) -> _Made:
    manifest = ibm_cnn_manifest(task.config, name=name, licence=licence, origin=origin)
    if task.config.same_network == IBMCNNConfig().same_network:
        return WeightlessGraph.read(GRAPH_PATH).fill(tensors, "float32"), manifest
    return export_masks(centred(_with(IBMCNN(task.config), tensors))), manifest


def _universal(
    task: UniversalTask, tensors: Tensors, name: str, licence: Licence, origin: WeightsOrigin
) -> _Made:
    config = task.config
    manifest = universal_manifest(config, name=name, licence=licence, origin=origin)
    folded = serving_tensors(tensors, config)
    if config.channels == ResUNetConfig().channels:
        return WeightlessGraph.read(graph_path(config)).fill(folded, "float32"), manifest
    return export_mask(_with(serving_form(config), folded)), manifest


def _demucs(task: DemucsTask, tensors: Tensors, name: str, licence: Licence, origin: WeightsOrigin) -> _Made:
    architecture = task.architecture
    manifest = manifest_of(
        name=name,
        family="demucs",
        description=architecture.description,
        licence=licence,
        citation=architecture.citation,
        stems=task.stems,
        audio=AUDIO,
        plan=architecture.plan,
        graph=architecture.graph,
        normalisation=NORMALISATION,
        origin=origin,
    )
    return export_core(_with(build_network(task.config), tensors), architecture), manifest


def _with(net: _Net, tensors: Tensors) -> _Net:
    """Put weights into a network; what is no float in its state (counters) stays as it is."""
    state = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()}
    missing, unknown = net.load_state_dict(state, strict=False)
    if unknown or any(net.state_dict()[name].is_floating_point() for name in missing):
        raise ModelFileError("the weights do not fit the network", "export them with their own configuration")
    return net.eval()
