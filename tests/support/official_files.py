"""Checkpoints in the forms of the official hosts, of the true networks with random weights."""

import hashlib
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs
from safetensors.torch import save_file

FOUR = ["drums", "bass", "other", "vocals"]
SIX = [*FOUR, "guitar", "piano"]
# Class and arguments of the released networks, all else default (papers' repository, docs/training.md).
NETWORKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "htdemucs": (
        HTDemucs,
        {"sources": FOUR, "bottom_channels": 512, "dconv_mode": 3, "segment": Fraction(39, 5)},
    ),
    "htdemucs_6s": (HTDemucs, {"sources": SIX, "dconv_mode": 3, "segment": Fraction(39, 5)}),
    "hdemucs": (HDemucs, {"sources": FOUR}),
}


def random_state(name: str, seed: int) -> dict[str, torch.Tensor]:
    """A state dict of the network's initial, random weights in float16, as releases are stored."""
    torch.manual_seed(seed)
    klass, kwargs = NETWORKS[name]
    return {key: tensor.half() for key, tensor in klass(**kwargs).state_dict().items()}


def network_of(name: str, state: dict[str, torch.Tensor]) -> Any:
    """The reference's network with these weights, in float32."""
    klass, kwargs = NETWORKS[name]
    network = klass(**kwargs)
    network.load_state_dict({key: tensor.float() for key, tensor in state.items()})
    return network.eval()


def th_file(name: str, state: dict[str, torch.Tensor], signature: str, folder: Path) -> Path:
    """Write a `.th` file, named by its own hash as the official host names them."""
    klass, kwargs = NETWORKS[name]
    path = folder / "written.th"
    torch.save({"klass": klass, "args": (), "kwargs": kwargs, "state": state, "training_args": {}}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path.rename(folder / f"{signature}-{digest[:8]}.th")


def safetensors_file(name: str, state: dict[str, torch.Tensor], signature: str, folder: Path) -> Path:
    """Write a safetensors file as demucs 4.1.0 reads them (demucs/hf.py)."""
    klass, kwargs = NETWORKS[name]
    coded = {
        key: {"_type": "fraction", "numerator": value.numerator, "denominator": value.denominator}
        if isinstance(value, Fraction)
        else value
        for key, value in kwargs.items()
    }
    path = folder / f"{signature}.safetensors"
    metadata = {
        "klass": f"{klass.__module__}.{klass.__name__}",
        "args": json.dumps([]),
        "kwargs": json.dumps(coded),
    }
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path, metadata)
    return path


def digest_of(state: dict[str, torch.Tensor]) -> str:
    """Content digest as docs/model-format.md tells it."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode() + state[key].float().numpy().tobytes())
    return digest.hexdigest()
