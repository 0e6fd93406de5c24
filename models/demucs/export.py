"""Export of the Demucs cores as weightless graphs.

    python -m stemwright.models.demucs.export [ARCHITECTURE ...] [--out FOLDER]

regenerates `graphs/*.onnx`. Each architecture is exported twice with random weights: the recipes
are found with the first set and must hold for the second.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from stemwright.core.errors import InternalError
from stemwright.models.demucs.architectures import ARCHITECTURES, GRAPHS_DIR, SHORT_SUFFIX, Architecture
from stemwright.models.demucs.configs import (
    BINS,
    HOP,
    HDemucsConfig,
    HTDemucsConfig,
    PaperDemucsConfig,
    TimeDemucsConfig,
)
from stemwright.models.demucs.network import HDemucs, HTDemucs, Network, build_network
from stemwright.models.demucs.waveform.layers import trim_centre
from stemwright.models.demucs.waveform.network import PaperDemucs, TimeDemucs
from stemwright.models.graphs.export import export_network, make_checked_weightless, random_state, state_of
from stemwright.models.graphs.recipes import Computed, State
from stemwright.models.graphs.weightless import WeightlessGraph, compare
from stemwright.models.graphs.widening import widened

WIDTHS = (8, 16, 24)
# Version 3's matrices of distances are made when a session is opened; those of calls of 10 s, of 186,000
# values, the exporter would store.
_LARGEST_FOLDED = 4096


class _Core(nn.Module):
    """A hybrid network's `core` as `forward`, which is what the exporter takes."""

    def __init__(self, net: HTDemucs | HDemucs) -> None:
        super().__init__()
        self.net = net

    def forward(self, mixture: Tensor, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        return self.net.core(mixture, spectrum)


class _Trimmed(nn.Module):
    """A waveform network that gives back exactly the segment in the middle of its input."""

    def __init__(self, net: PaperDemucs | TimeDemucs, samples: int) -> None:
        super().__init__()
        self.net, self.samples = net, samples

    def forward(self, mixture: Tensor) -> Tensor:
        return trim_centre(self.net(mixture), self.samples)


def random_network(architecture: Architecture, seed: int) -> Network:
    """Return the network with every parameter random, also those that start as constants."""
    net = build_network(architecture.config).eval()
    random_state(net, seed)
    return net


def export_core(net: Network, architecture: Architecture) -> onnx.ModelProto:
    """Export what lies between the transforms, or a waveform network, at the architecture's length."""
    samples = architecture.input_samples
    if isinstance(net, PaperDemucs | TimeDemucs):
        trimmed = _Trimmed(net, architecture.segment_samples)
        return export_network(
            trimmed,
            (torch.zeros(1, 2, samples),),
            inputs=["mixture"],
            outputs=["stems"],
            largest_folded=_largest_folded(architecture),
        )
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
        largest_folded=_largest_folded(architecture),
    )


def _largest_folded(architecture: Architecture) -> int | None:
    local = isinstance(architecture.config, HDemucsConfig | TimeDemucsConfig)
    return _LARGEST_FOLDED if local and architecture.name.endswith(SHORT_SUFFIX) else None


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
    """Export an architecture without its weights; `verify` checks the recipes with other weights.

    The paper's networks are exported in three narrow versions, from which the graph of the full width follows
    (models/graphs/widening.py): v1 alone would need eight gigabytes otherwise.
    """
    if not isinstance(architecture.config, PaperDemucsConfig):
        return _export_as_it_is(architecture, verify=verify)
    narrow = {width: _export_as_it_is(_with_channels(architecture, width), verify=False) for width in WIDTHS}
    if verify:
        second = _export_as_it_is(_with_channels(architecture, WIDTHS[0]), verify=True)
        if differences := compare(narrow[WIDTHS[0]], second):
            raise InternalError(f"two exports of one architecture differ: {differences[0]}")
    return widened(narrow, _channels(architecture))


def _export_as_it_is(architecture: Architecture, *, verify: bool) -> WeightlessGraph:
    def export(seed: int) -> tuple[onnx.ModelProto, State]:
        net = random_network(architecture, seed)
        return export_core(net, architecture), state_of(net)

    return make_checked_weightless(export, position_codes(architecture), verify=verify)


def _channels(architecture: Architecture) -> int:
    return architecture.config.channels


def _with_channels(architecture: Architecture, channels: int) -> Architecture:
    return dataclasses.replace(
        architecture, config=dataclasses.replace(architecture.config, channels=channels)
    )


def main(arguments: list[str] | None = None) -> None:
    """Regenerate the shipped graphs."""
    parser = argparse.ArgumentParser(description="Regenerate the weightless graphs of the Demucs family.")
    parser.add_argument("architectures", nargs="*", help=f"of {', '.join(ARCHITECTURES)}; default: all")
    parser.add_argument("--out", type=Path, default=GRAPHS_DIR)
    options = parser.parse_args(arguments)
    own = [name for name, architecture in ARCHITECTURES.items() if not architecture.graph_name]
    for name in options.architectures or own:
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
