"""Make the stored parity case of a model: what demucs 4.1.0 in torch makes of the test piece.

    python scripts/make_parity_case.py CHECKPOINT models/demucs/parity/htdemucs.npz

CHECKPOINT is any file that `stemwright models import` takes. Needs the `dev` extra.
"""

import argparse
import importlib
from pathlib import Path

import demucs
import numpy as np
import torch

from stemwright.models.checkpoints import content_digest, read_checkpoint
from stemwright.models.demucs.checkpoints import architecture_of
from stemwright.models.demucs.parity_case import ParityCase, chosen_samples, parity_piece


def main() -> None:
    """Write the case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    checkpoint = read_checkpoint(options.checkpoint)
    samples = architecture_of(checkpoint).segment_samples
    module, _, name = checkpoint.klass.rpartition(".")
    network = getattr(importlib.import_module(module), name)(*checkpoint.args, **checkpoint.kwargs).eval()
    network.load_state_dict(
        {key: torch.from_numpy(value.astype(np.float32)) for key, value in checkpoint.tensors.items()}
    )
    with torch.no_grad():
        stems = network(torch.from_numpy(parity_piece(samples))[None])[0].numpy()
    levels = 10 * np.log10(np.mean(stems.astype(np.float64) ** 2, axis=(1, 2)))
    case = ParityCase(
        content_sha256=content_digest(checkpoint.tensors),
        reference=f"demucs {demucs.__version__}, torch {torch.__version__.partition('+')[0]}, float32",
        samples=samples,
        expected=chosen_samples(stems),
    )
    case.write(options.target)
    print(f"{options.target}: {options.target.stat().st_size} bytes; stems at {np.round(levels, 1)} dB")


if __name__ == "__main__":
    main()
