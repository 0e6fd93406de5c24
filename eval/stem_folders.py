"""References and estimates as folders of stems, paired by name and read in bounded memory."""

import logging
from pathlib import Path

from stemwright.core.audio.source import open_source
from stemwright.core.audio.suffixes import AUDIO_SUFFIXES
from stemwright.core.errors import InputError
from stemwright.eval.datasets.sources import Named
from stemwright.eval.pairing import SourcePairs, pair_sources

_LOG = logging.getLogger(__name__)
RESULT_FILE = "result.json"
"""What `separate` writes beside stems."""


def open_stem_folders(reference: Path, estimate: Path, stems: tuple[str, ...] | None = None) -> SourcePairs:
    """Pair the stems of two folders by name.

    A file's name without its ending is the stem. Files of the estimates' folder without a reference (a
    residual, say) are left out with a warning; a file named `mixture` is not a stem.

    Parameters
    ----------
    reference, estimate
        Folders.
    stems
        Names of the stems to score; None for all that there is a reference for.

    Raises
    ------
    InputError
        A folder is missing or empty, the folders were exchanged, a stem has no estimate, or rates, channels
        or lengths differ.
    """
    true, found = _stems(reference), _stems(estimate)
    _require_order(reference, true, estimate, found)
    names = stems or tuple(sorted(name for name in true if name != "mixture"))
    if not names:
        raise InputError(f"{reference} holds nothing but a mixture", "put the true stems there")
    for name in names:
        for folder, stems_there in ((reference, true), (estimate, found)):
            if name not in stems_there:
                raise InputError(f"{folder} has no stem {name}", f"it has {', '.join(sorted(stems_there))}")
    for name in sorted(set(found) - set(true) - {"mixture"}):
        _LOG.warning("%s is not scored: there is no reference %s", found[name], name)
    return pair_sources(
        names,
        [Named(str(true[name]), open_source(true[name])) for name in names],
        [Named(str(found[name]), open_source(found[name])) for name in names],
    )


def _stems(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", "give the folder that the stems lie in")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file():
            if path.stem in files:
                raise InputError(f"{folder} has two stems {path.stem}", "remove one of the files")
            files[path.stem] = path
    if not files:
        raise InputError(f"{folder} has no audio files", "give the folder that the stems lie in")
    return files


def _require_order(reference: Path, true: dict[str, Path], estimate: Path, found: dict[str, Path]) -> None:
    """Refuse folders that were exchanged, where that can be seen."""
    exchange = "exchange --reference and --estimate"
    if (reference / RESULT_FILE).is_file() and not (estimate / RESULT_FILE).is_file():
        raise InputError(f"{reference} holds stems that were separated, {estimate} does not", exchange)
    if "mixture" in found and "mixture" not in true:
        raise InputError(
            f"{estimate} holds the mixture, {reference} does not",
            f"{exchange}, or take the mixture out of the estimates",
        )
