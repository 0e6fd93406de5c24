"""Export of the Demucs cores as weightless graphs.

    python -m stemwright.models.demucs.export [ARCHITECTURE ...] [--out FOLDER]

regenerates `graphs/*.onnx`. Each architecture is exported twice with random weights: the recipes
are found with the first set and must hold for the second.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from stemwright.models.demucs.architectures import ARCHITECTURES, GRAPHS_DIR, Architecture
from stemwright.models.demucs.configs import BINS, HOP, HTDemucsConfig
from stemwright.models.demucs.network import HDemucs, HTDemucs, build_network
from stemwright.models.graphs.export import export_network, make_checked_weightless, random_state, state_of
from stemwright.models.graphs.recipes import Computed, State
from stemwright.models.graphs.weightless import WeightlessGraph


class _Core(nn.Module):
    """A network's `core` as `forward`, which is what the exporter takes."""

    def __init__(self, net: HTDemucs | HDemucs) -> None:
        super().__init__()
        self.net = net

    def forward(self, mixture: Tensor, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        return self.net.core(mixture, spectrum)


def random_network(architecture: Architecture, seed: int) -> HTDemucs | HDemucs:
    """Return the network with every parameter random, also those that start as constants."""
    net = build_network(architecture.config).eval()
    random_state(net, seed)
    return net


def export_core(net: HTDemucs | HDemucs, architecture: Architecture) -> onnx.ModelProto:
    """Export the part between the transforms, at the architecture's segment length."""
    samples = architecture.segment_samples
    frames = -(-samples // HOP)
    # An example batch of 2, since an exporter takes a size of 1 for a constant.
    batch = 2 if architecture.batch == "dynamic" else 1
    example = (torch.zeros(batch, 2, samples), torch.zeros(batch, 4, BINS, frames))
    axes = {0: torch.export.Dim("batch", min=1)}
    return export_network(
        _Core(net),
        example,
        inputs=["mixture", "spectrum"],
        outputs=["spectra", "waveforms"],
        dynamic=(axes, axes) if architecture.batch == "dynamic" else None,
    )


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

    def export(seed: int) -> tuple[onnx.ModelProto, State]:
        net = random_network(architecture, seed)
        return export_core(net, architecture), state_of(net)

    return make_checked_weightless(export, position_codes(architecture), verify=verify)


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
