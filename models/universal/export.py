"""Export of ResUNet30 as weightless graphs.

    python -m stemwright.models.universal.export [SIZE ...] [--out FOLDER]

regenerates `graphs/resunet30_SIZE.onnx` for the sizes of the condition.
"""

import argparse
from pathlib import Path

import onnx
import torch

from stemwright.models.graphs.export import export_network, make_checked_weightless, random_state, state_of
from stemwright.models.graphs.recipes import State
from stemwright.models.graphs.weightless import WeightlessGraph
from stemwright.models.universal.architectures import GRAPHS_DIR, RULES, graph_path
from stemwright.models.universal.configs import BINS, FRAMES, ResUNetConfig
from stemwright.models.universal.network import MaskNetwork, ResUNet30, serving_form


def export_mask(net: ResUNet30) -> onnx.ModelProto:
    """Export a network as it serves: magnitude [B, 1, 1025, 201] and condition [B, D] to a complex mask."""
    batch = torch.export.Dim("batch", min=1)
    return export_network(
        MaskNetwork(net).eval(),
        (torch.zeros(2, 1, BINS, FRAMES), torch.zeros(2, net.config.condition_size)),
        inputs=["magnitude", "condition"],
        outputs=["mask"],
        dynamic=({0: batch}, {0: batch}),
    )


def export_weightless(config: ResUNetConfig, *, verify: bool = True) -> WeightlessGraph:
    """Export without weights; they are those of `folding.serving_tensors`."""

    def export(seed: int) -> tuple[onnx.ModelProto, State]:
        net = serving_form(config)
        random_state(net, seed)
        return export_mask(net), state_of(net)

    return make_checked_weightless(export, verify=verify)


def main(arguments: list[str] | None = None) -> None:
    """Regenerate the shipped graphs."""
    parser = argparse.ArgumentParser(description="Regenerate the weightless graphs of ResUNet30.")
    parser.add_argument("sizes", nargs="*", type=int, help=f"of {', '.join(map(str, RULES))}; default: all")
    parser.add_argument("--out", type=Path, default=GRAPHS_DIR)
    options = parser.parse_args(arguments)
    for size in options.sizes or RULES:
        if size not in RULES:
            parser.error(f"no condition of {size} values; there are {', '.join(map(str, RULES))}")
        config = ResUNetConfig(condition_size=size)
        weightless = export_weightless(config)
        path = options.out / graph_path(config).name
        weightless.write(path)
        parser._print_message(
            f"{path}: {path.stat().st_size} bytes, {len(weightless.model.graph.node)} nodes, "
            f"{len(weightless.recipes)} recipes\n"
        )


if __name__ == "__main__":
    main()
