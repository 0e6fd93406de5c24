"""Export of networks as weightless graphs: what the families' own export modules share (torch)."""

import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxscript.optimizer import optimize_ir
from torch import Tensor, nn

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InternalError
from stemwright.models.graphs.recipes import Computed, State
from stemwright.models.graphs.weightless import WeightlessGraph, check_recipes, make_weightless

OPSET = 20  # the first with Gelu


def random_state(net: nn.Module, seed: int, *, scale: float = 0.02) -> None:
    """Fill a network with random values, also what starts as a constant.

    Parameters
    ----------
    net
        Its parameters are drawn from a normal distribution of standard deviation `scale`; of its buffers
        of floats, those named `running_var` uniformly from 0.5 to 1.5, other persistent ones like
        parameters.
    seed
        Of the generator.
    scale
        See `net`.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        persistent = net.state_dict()
        for name, buffer in net.named_buffers():
            if name not in persistent or not buffer.is_floating_point():
                continue
            if name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
            else:
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * scale)


def state_of(net: nn.Module) -> dict[str, FloatArray]:
    """Return the network's tensors of floats by name."""
    return {name: tensor.numpy() for name, tensor in net.state_dict().items() if tensor.is_floating_point()}


def export_network(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic: Any = None,
    largest_folded: int | None = None,
) -> onnx.ModelProto:
    """Export a network with its weights.

    Parameters
    ----------
    module
        The network, in evaluation mode.
    examples
        Inputs of `forward`. A dynamic axis needs a size above 1 here: an exporter takes 1 for a constant.
    inputs, outputs
        Names in the graph.
    dynamic
        `dynamic_shapes` of torch.onnx.export: for each input the axes that may vary. None: none.
    largest_folded
        Most values of a constant that the exporter may make of others; None for its own limit, a million.

    Returns
    -------
    onnx.ModelProto
        Opset 20, weights inside.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter about itself
        path = Path(folder) / "network.onnx"
        program = torch.onnx.export(
            module,
            examples,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=dynamic,
            optimize=largest_folded is None,
            verbose=False,
        )
        if program is None:
            raise InternalError("the exporter gave nothing")
        if largest_folded is not None:
            optimize_ir(program.model, output_size_limit=largest_folded)
        program.save(path, external_data=False)
        model: onnx.ModelProto = onnx.load(path)
    return model


def make_checked_weightless(
    export: Callable[[int], tuple[onnx.ModelProto, State]],
    computed: Sequence[Computed] = (),
    *,
    verify: bool = True,
) -> WeightlessGraph:
    """Export an architecture twice with random weights and take them out.

    Parameters
    ----------
    export
        Exports the network with random weights of a seed; returns the graph and the network's state.
    computed
        Large constants that depend on no weight.
    verify
        Hold the recipes, which are found with the first weights, to a second export with others.

    Raises
    ------
    InternalError
        A large constant is not made of the weights, or a recipe does not hold for other weights.
    """
    weightless = make_weightless(*export(1), computed)
    if verify:
        check_recipes(weightless, *export(2))
    return weightless
