"""Export of the IBM-CNN as a weightless graph.

    python -m stemwright.models.ibm_cnn.export [--out FOLDER]

regenerates `graphs/ibm_cnn.onnx`.
"""

import argparse
from pathlib import Path

import onnx
import torch

from stemwright.models.graphs.export import export_network, make_checked_weightless, random_state, state_of
from stemwright.models.graphs.recipes import State
from stemwright.models.graphs.weightless import WeightlessGraph
from stemwright.models.ibm_cnn.architectures import GRAPH_PATH, INPUT_FRAMES
from stemwright.models.ibm_cnn.configs import BINS, IBMCNNConfig
from stemwright.models.ibm_cnn.network import IBMCNN, MaskNetwork, Sharing


def export_masks(net: IBMCNN, *, frames: int = INPUT_FRAMES, sharing: Sharing = "frames") -> onnx.ModelProto:
    """Export a network as it serves: magnitude [B, 1, 2049, N] to masks [B, 2, 1, 2049, N], N fixed."""
    batch = torch.export.Dim("batch", min=1)
    return export_network(
        MaskNetwork(net, sharing).eval(),
        (torch.zeros(2, 1, BINS, frames),),
        inputs=["magnitude"],
        outputs=["masks"],
        dynamic=({0: batch},),
    )


def export_weightless(
    config: IBMCNNConfig | None = None, *, frames: int = INPUT_FRAMES, verify: bool = True
) -> WeightlessGraph:
    """Export without weights; `verify` checks the recipes with other weights."""

    def export(seed: int) -> tuple[onnx.ModelProto, State]:
        net = IBMCNN(config).eval()
        random_state(net, seed)
        return export_masks(net, frames=frames), state_of(net)

    return make_checked_weightless(export, verify=verify)


def main(arguments: list[str] | None = None) -> None:
    """Regenerate the shipped graph."""
    parser = argparse.ArgumentParser(description="Regenerate the weightless graph of the IBM-CNN.")
    parser.add_argument("--out", type=Path, default=GRAPH_PATH.parent)
    options = parser.parse_args(arguments)
    weightless = export_weightless()
    path = options.out / GRAPH_PATH.name
    weightless.write(path)
    parser._print_message(
        f"{path}: {path.stat().st_size} bytes, {len(weightless.model.graph.node)} nodes, "
        f"{len(weightless.recipes)} recipes\n"
    )


if __name__ == "__main__":
    main()
