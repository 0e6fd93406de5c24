"""Checkpoints written by the demucs package itself, of small networks with random weights."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs
from demucs.states import get_state
from safetensors.torch import save_file

STEMS = ["drums", "bass", "other", "vocals"]
SMALL_HTDEMUCS: dict[str, Any] = {
    "channels": 8,
    "bottom_channels": 16,
    "dconv_mode": 3,
    "segment": Fraction(39, 5),
    "t_heads": 2,
    "t_layers": 3,
}
RELEASED_HTDEMUCS: dict[str, Any] = {"bottom_channels": 512, "dconv_mode": 3, "segment": Fraction(39, 5)}


def randomise(network: torch.nn.Module, seed: int = 0, scale: float = 0.05) -> torch.nn.Module:
    """Make every parameter random, also those that start as constants, with values that float16 holds."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            values = torch.randn(parameter.shape, generator=generator) * scale
            parameter.copy_(values.half().float())
    return network.eval()


def small_htdemucs(seed: int = 0, **changes: Any) -> torch.nn.Module:
    """The reference's HTDemucs, small enough for a unit test."""
    network: torch.nn.Module = HTDemucs(sources=STEMS, **{**SMALL_HTDEMUCS, **changes})
    randomise(network, seed)
    return network


def small_hdemucs(seed: int = 0, **changes: Any) -> torch.nn.Module:
    """The reference's HDemucs, small enough for a unit test."""
    network: torch.nn.Module = HDemucs(sources=STEMS, **{"channels": 4, **changes})
    randomise(network, seed)
    return network


def built_with(network: torch.nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments that a network of the demucs package was built with."""
    captured: Any = network._init_args_kwargs
    args, kwargs = captured
    return args, kwargs


def write_th(network: torch.nn.Module, path: Path, *, half: bool = True) -> Path:
    """Write a checkpoint as `demucs.states.serialize_model` makes it (which itself needs OmegaConf)."""
    args, kwargs = built_with(network)
    package = {
        "klass": type(network),
        "args": args,
        "kwargs": kwargs,
        "state": get_state(network, None, half),  # type: ignore[no-untyped-call]
        "training_args": {"lr": 3e-4, "batch": [1, 2]},
    }
    torch.save(package, path)
    return path


def write_safetensors(network: torch.nn.Module, path: Path) -> Path:
    """Write a checkpoint in the form that demucs.hf reads."""
    args, kwargs = built_with(network)
    klass = type(network)
    state = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    metadata = {
        "klass": f"{klass.__module__}.{klass.__name__}",
        "args": json.dumps(args, default=_fraction),
        "kwargs": json.dumps(kwargs, default=_fraction),
    }
    save_file(state, path, metadata)
    return path


def _fraction(value: object) -> dict[str, object]:
    assert isinstance(value, Fraction)
    return {"_type": "fraction", "numerator": value.numerator, "denominator": value.denominator}
