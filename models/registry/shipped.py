"""Which models are part of the package, and where; without the libraries that opening them takes."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

_MODELS = Path(__file__).parents[1]

SHIPPED: Mapping[str, Path] = MappingProxyType(
    {
        "yamnet": _MODELS / "taggers" / "yamnet",
        "convtasnet-2spk": _MODELS / "first" / "convtasnet-2spk",
        "uss-lite": _MODELS / "first" / "uss-lite",
    }
)
"""A model of the same name in the store takes the place of each."""
