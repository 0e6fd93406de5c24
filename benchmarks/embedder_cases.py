"""Make the stored cases of embedders: random weights and what the authors' own networks make of a sound.

Each case is made in an environment that has the authors' package, and kept beside the tests that read it:

    pip download --no-deps cdpam==0.0.6 && unzip cdpam-0.0.6-py3-none-any.whl -d cdpam
    python benchmarks/embedder_cases.py cdpam cdpam/cdpam/models.py tests/models/embedders/cdpam_case.npz
"""

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def module_of(path: Path) -> ModuleType:
    """Load one file of a package, without what the package imports besides."""
    spec = importlib.util.spec_from_file_location("authors", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def randomised(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give every tensor of a network random values at which nothing dies out."""
    torch.manual_seed(seed)
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            continue
        if "var" in name:
            value.uniform_(0.5, 1.5)
        elif value.ndim < 2:
            value.copy_(torch.randn_like(value) * 0.1 + (1.0 if name.endswith("weight") else 0.0))
        else:
            value.copy_(torch.randn_like(value) * (1.5 / value[0].numel()) ** 0.5)
    return network.eval()


def state_of(network: torch.nn.Module, prefix: str = "") -> Arrays:
    """Return the tensors by name."""
    return {f"state/{prefix}{name}": value.numpy() for name, value in network.state_dict().items()}


def cdpam(source: Path) -> Arrays:
    """Run CDPAM's encoder, 8 layers that begin with 4 channels, on 3 sounds of 1000 samples."""
    network = randomised(module_of(source).base_encoder(n_layers=8, nefilters=4))
    sounds = torch.randn(3, 1000, generator=torch.Generator().manual_seed(1)) * 3000
    with torch.no_grad():
        _, acoustic, content = network(sounds[:, None])
    normalise = torch.nn.functional.normalize
    return state_of(network, "base_encoder.") | {
        "sounds": sounds.numpy(),
        "acoustic": normalise(acoustic, dim=1).numpy(),
        "content": normalise(content, dim=1).numpy(),
    }


CASES: dict[str, Callable[[Path], Arrays]] = {"cdpam": cdpam}


def main() -> None:
    """Write a case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=sorted(CASES))
    parser.add_argument("source", type=Path, help="the authors' file or folder")
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    arrays = CASES[options.case](options.source)
    np.savez_compressed(options.target, **arrays)
    print(f"{options.target}: {options.target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
