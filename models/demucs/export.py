"""Export of the Demucs cores as weightless graphs.

    python -m stemwright.models.demucs.export [ARCHITECTURE ...] [--out FOLDER]

regenerates `graphs/*.onnx`. Each architecture is exported twice with random weights: the recipes
are found with the first set and must hold for the second.
"""

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from stemwright.core.arrays import FloatArray
from stemwright.models.demucs.architectures import ARCHITECTURES, GRAPHS_DIR, Architecture
from stemwright.models.demucs.configs import BINS, HOP, HTDemucsConfig
from stemwright.models.demucs.network import HDemucs, HTDemucs, build_network
from stemwright.models.graphs.recipes import Computed
from stemwright.models.graphs.weightless import WeightlessGraph, check_recipes, make_weightless

OPSET = 20  # the first with Gelu


class _Core(nn.Module):
    """A network's `core` as `forward`, which is what the exporter takes."""

    def __init__(self, net: HTDemucs | HDemucs) -> None:
        super().__init__()
        self.net = net

    def forward(self, mixture: Tensor, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        return self.net.core(mixture, spectrum)


def random_network(architecture: Architecture, seed: int) -> HTDemucs | HDemucs:
    """Return the network with every parameter random, also those that start as constants."""
    generator = torch.Generator().manual_seed(seed)
    net = build_network(architecture.config).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return net


def state_of(net: nn.Module) -> dict[str, FloatArray]:
    """Return the network's tensors by name."""
    return {name: tensor.numpy() for name, tensor in net.state_dict().items()}


def export_core(net: HTDemucs | HDemucs, architecture: Architecture) -> onnx.ModelProto:
    """Export the part between the transforms, at the architecture's segment length."""
    samples = architecture.segment_samples
    frames = -(-samples // HOP)
    # An example batch of 2, since an exporter takes a size of 1 for a constant.
    batch = 2 if architecture.batch == "dynamic" else 1
    example = (torch.zeros(batch, 2, samples), torch.zeros(batch, 4, BINS, frames))
    axes = {0: torch.export.Dim("batch", min=1)}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter about itself
        path = Path(folder) / "core.onnx"
        torch.onnx.export(
            _Core(net),
            example,
            path,
            dynamo=True,
            opset_version=OPSET,
            input_names=["mixture", "spectrum"],
            output_names=["spectra", "waveforms"],
            dynamic_shapes=(axes, axes) if architecture.batch == "dynamic" else None,
            external_data=False,
            verbose=False,
        )
        model: onnx.ModelProto = onnx.load(path)
    return model


def position_codes(architecture: Architecture) -> tuple[Computed, ...]:
    """Return the constants of the architecture's transformer that depend on no weight."""
    config = architecture.config
    if not isinstance(config, HTDemucsConfig):
        return ()
    dim = config.bottom_channels or config.channels * 2 ** (config.depth - 1)
    steps = architecture.segment_samples
    for _ in range(config.depth):
        steps = -(-steps // 4)
    frames = -(-architecture.segment_samples // HOP)
    bins = BINS // 4**config.depth
    return (
        Computed(generator="sinusoid_1d", arguments={"length": steps, "dim": dim}, shape=(steps, dim)),
        Computed(
            generator="sinusoid_2d", arguments={"count": frames, "dim": dim, "half": 0}, shape=(frames, dim)
        ),
        Computed(
            generator="sinusoid_2d", arguments={"count": bins, "dim": dim, "half": 1}, shape=(bins, dim)
        ),
    )


def export_weightless(architecture: Architecture, *, verify: bool) -> WeightlessGraph:
    """Export an architecture without its weights; `verify` checks the recipes with other weights."""
    first = random_network(architecture, seed=1)
    weightless = make_weightless(
        export_core(first, architecture), state_of(first), position_codes(architecture)
    )
    if verify:
        second = random_network(architecture, seed=2)
        check_recipes(weightless, export_core(second, architecture), state_of(second))
    return weightless


def main(arguments: list[str] | None = None) -> None:
    """Regenerate the shipped graphs."""
    parser = argparse.ArgumentParser(description="Regenerate the weightless graphs of the Demucs family.")
    parser.add_argument("architectures", nargs="*", help=f"of {', '.join(ARCHITECTURES)}; default: all")
    parser.add_argument("--out", type=Path, default=GRAPHS_DIR)
    options = parser.parse_args(arguments)
    for name in options.architectures or ARCHITECTURES:
        if name not in ARCHITECTURES:
            parser.error(f"no architecture {name}; there are {', '.join(ARCHITECTURES)}")
        weightless = export_weightless(ARCHITECTURES[name], verify=True)
        path = options.out / f"{name}.onnx"
        weightless.write(path)
        stored = sum(np.prod(tensor.dims) for tensor in weightless.model.graph.initializer)
        parser._print_message(
            f"{path}: {path.stat().st_size} bytes, {len(weightless.model.graph.node)} nodes, "
            f"{len(weightless.recipes)} recipes, {int(stored)} stored values\n"
        )


if __name__ == "__main__":
    main()
