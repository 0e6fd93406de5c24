"""Arguments of a network's constructor as plain values, out of a pickle or out of JSON."""

import json
from collections.abc import Mapping
from fractions import Fraction

from stemwright.core.errors import ModelFileError
from stemwright.models.checkpoints.checkpoint import Value

MAX_DEPTH = 16
MAX_VALUES = 100_000
_REMEDY = "fetch the checkpoint again from its authors"


def plain(value: object) -> Value:
    """Return a copy that holds nothing but plain values.

    Raises
    ------
    ModelFileError
        Something else is in it, or it is nested or repeated without end.
    """
    return _Copier().copy(value, 0)


def plain_mapping(value: object) -> dict[str, Value]:
    """Return what `plain` does, for a dictionary; raises as `plain` does, also for anything else."""
    copied = plain(value)
    if not isinstance(copied, dict):
        raise ModelFileError("the checkpoint's arguments are no dictionary", _REMEDY)
    return copied


def from_json(text: str) -> Value:
    """Read arguments from JSON as demucs 4.1.0 writes them (`demucs.hf._decode_json`).

    A fraction is `{"_type": "fraction", "numerator": N, "denominator": D}`.

    Raises
    ------
    ModelFileError
        Not JSON, or a fraction that is none.
    """
    try:
        return plain(json.loads(text, object_hook=_object))
    except (ValueError, RecursionError) as error:
        raise ModelFileError("the checkpoint's arguments are not JSON", _REMEDY) from error


def _object(value: dict[str, object]) -> object:
    if value.get("_type") != "fraction":
        return value
    numerator, denominator = value.get("numerator"), value.get("denominator")
    if type(numerator) is not int or type(denominator) is not int or not denominator:
        raise ModelFileError("the checkpoint's arguments have a fraction that is none", _REMEDY)
    return Fraction(numerator, denominator)


class _Copier:
    def __init__(self) -> None:
        self.left = MAX_VALUES

    def copy(self, value: object, depth: int) -> Value:
        self.left -= 1
        if depth > MAX_DEPTH or self.left < 0:
            raise ModelFileError("the checkpoint's arguments are nested or repeated without end", _REMEDY)
        if value is None or isinstance(value, (bool, int, float, str, Fraction)):
            return value
        if isinstance(value, list):
            return [self.copy(item, depth + 1) for item in value]
        if isinstance(value, tuple):
            return tuple(self.copy(item, depth + 1) for item in value)
        if isinstance(value, Mapping):
            return {str(key): self.copy(item, depth + 1) for key, item in value.items()}
        raise ModelFileError("the checkpoint's arguments hold more than plain values", _REMEDY)
