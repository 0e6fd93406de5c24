"""Data sets by name: `KIND:PATH`, perhaps with `?mix=NAME`."""

import dataclasses
import difflib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl

from stemwright.core.errors import InputError, OptionError
from stemwright.eval.datasets.contract import DataSet
from stemwright.eval.datasets.mixtures import open_sounds, open_speakers
from stemwright.eval.datasets.music import open_folder, open_musdb, open_two_channel

_KINDS: dict[str, Callable[[Path, str | None], DataSet]] = {
    "musdb": open_musdb("musdb18"),
    "musdb-hq": open_musdb("musdb18-hq"),
    "folder": open_folder,
    "mir-1k": open_two_channel,
    "ikala": open_two_channel,
    "fuss": open_sounds,
}
_WITH_MIXTURES: dict[str, Callable[[Path, str | None, str | None], DataSet]] = {
    "librimix": open_speakers("test"),
    "wsj0-2mix": open_speakers("tt"),
}
KINDS = (*_KINDS, *_WITH_MIXTURES)


def open_data(spec: str, split: str | None = None) -> DataSet:
    """Find a data set and its tracks.

    Parameters
    ----------
    spec
        `KIND:PATH`, KIND one of KINDS; of librimix and wsj0-2mix `?mix=FOLDER` may choose the mixtures.
    split
        Which part; None for the one that results are given of.

    Raises
    ------
    OptionError
        An unknown kind, option or split.
    InputError
        No such folder, not readable, of another layout, or without tracks.
    """
    kind, _, rest = spec.partition(":")
    if kind not in KINDS or not rest:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        remedy = (
            f"did you mean {near[0]}:PATH?" if near else f"write KIND:PATH, KIND one of {', '.join(KINDS)}"
        )
        raise OptionError(f"{spec!r} names no data set", remedy)
    path, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    mix = options.pop("mix", None)
    if options or (mix is not None and kind in _KINDS):
        raise OptionError(f"{kind} has no option {next(iter(options), 'mix')}", "leave it out")
    try:
        root = Path(path).expanduser().resolve(strict=True)
        if not root.is_dir():
            raise InputError(f"{path} is not a folder", "give the data set's folder")
        found = _KINDS[kind](root, split) if kind in _KINDS else _WITH_MIXTURES[kind](root, split, mix)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot read the folder {path}: {reason}", "check the path") from error
    if not found.tracks:
        raise InputError(f"{path} holds no tracks of {kind}", "check the path, or --split")
    return dataclasses.replace(found, label=spec)
