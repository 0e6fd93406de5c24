"""From `[model]` of a configuration to the family's own configuration of its network."""

import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from stemwright.core.errors import OptionError

_Config = TypeVar("_Config")


def named_variant(variants: Mapping[str, _Config], name: str, family: str) -> _Config:
    """Return a variant by name; raises OptionError."""
    if name not in variants:
        near = get_close_matches(name, variants, n=1)
        raise OptionError(
            f"{family} has no variant {name}",
            f"did you mean {near[0]}?" if near else f"it is one of {', '.join(variants)}",
        )
    return variants[name]


def resized(config: _Config, sizes: Mapping[str, Any], family: str) -> _Config:
    """Change fields of a family's configuration.

    Raises
    ------
    OptionError
        There is no such field, it cannot have that value, or the sizes make no network.
    """
    fields: dict[str, Any] = {}
    known = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    for name, value in sizes.items():
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            raise OptionError(
                f"model.sizes has {name}, which networks of {family} do not have",
                f"did you mean {near[0]}?" if near else f"it is one of {', '.join(known)}",
            )
        fields[name] = _checked(name, value, known[name])
    try:
        return dataclasses.replace(config, **fields)  # type: ignore[type-var]
    except ValueError as error:
        raise OptionError(f"model.sizes makes no network of {family}: {error}", "correct it") from error


def _checked(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if isinstance(default, tuple) and isinstance(value, list) and name != "sources":
        if len(value) == len(default):
            return tuple(_checked(name, *pair) for pair in zip(value, default, strict=True))
    elif isinstance(default, tuple) and isinstance(value, list):
        return tuple(_checked(name, item, "") for item in value)
    elif type(value) is type(default):
        return value
    raise OptionError(f"model.sizes.{name} is {value!r}", f"give a value such as {default!r}")
