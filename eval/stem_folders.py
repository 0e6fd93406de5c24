"""References and estimates as folders of stems, paired by name and read in bounded memory."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemwright.core.audio.source import FileSource, open_source
from stemwright.core.audio.suffixes import AUDIO_SUFFIXES
from stemwright.core.errors import InputError
from stemwright.eval.bss_eval.projection import Doubles

_LOG = logging.getLogger(__name__)
_FRAME_S = 1.0
"""Lengths may differ by less than a frame of BSS Eval, which no scored frame is lost by."""


@dataclass(frozen=True)
class StemFolders:
    """Pairs of stem files of one track; see bss_eval.images.Pairs.

    Parameters
    ----------
    names
        The stems.
    references, estimates
        Their files, in the order of the names.
    samples
        Length that all have, in samples; what is longer is cut there.
    sample_rate
        In Hz.
    """

    names: tuple[str, ...]
    references: tuple[FileSource, ...]
    estimates: tuple[FileSource, ...]
    samples: int
    sample_rate: int

    def blocks(self, size: int) -> Iterator[tuple[Doubles, Doubles]]:
        """Yield references and estimates from the start, shapes=(J, C, size); the last may be shorter."""
        streams = [source.blocks(size) for source in (*self.references, *self.estimates)]
        for start in range(0, self.samples, size):
            count = min(size, self.samples - start)
            parts = [np.asarray(next(stream)[:, :count], np.float64) for stream in streams]
            yield np.stack(parts[: len(self.names)]), np.stack(parts[len(self.names) :])


def open_stem_folders(reference: Path, estimate: Path, stems: tuple[str, ...] | None = None) -> StemFolders:
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
        A folder is missing or empty, a stem has no estimate, or rates, channels or lengths differ.
    """
    true, found = _stems(reference), _stems(estimate)
    names = stems or tuple(sorted(name for name in true if name != "mixture"))
    for name in names:
        for folder, stems_there in ((reference, true), (estimate, found)):
            if name not in stems_there:
                raise InputError(f"{folder} has no stem {name}", f"it has {', '.join(sorted(stems_there))}")
    for name in sorted(set(found) - set(true) - {"mixture"}):
        _LOG.warning("%s is not scored: there is no reference %s", found[name], name)
    references = tuple(open_source(true[name]) for name in names)
    estimates = tuple(open_source(found[name]) for name in names)
    paths = [true[name] for name in names] + [found[name] for name in names]
    pairs = list(zip(paths, references + estimates, strict=True))
    _require_one_form(pairs)
    return StemFolders(
        names=names,
        references=references,
        estimates=estimates,
        samples=_common_length(pairs),
        sample_rate=references[0].info.sample_rate,
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


def _require_one_form(files: list[tuple[Path, FileSource]]) -> None:
    first_path, first = files[0]
    for path, source in files[1:]:
        if source.info.sample_rate != first.info.sample_rate:
            raise InputError(
                f"{path} has {source.info.sample_rate} Hz, {first_path} {first.info.sample_rate} Hz",
                "resample neither silently: make the estimates at the references' rate",
            )
        if source.info.channels != first.info.channels:
            raise InputError(
                f"{path} has {source.info.channels} channels, {first_path} {first.info.channels}",
                "make the estimates with the references' channels",
            )


def _common_length(files: list[tuple[Path, FileSource]]) -> int:
    """Find the shortest length by decoding, since headers may be wrong."""
    lengths: list[tuple[int, Path]] = [
        (sum(int(block.shape[1]) for block in source.blocks()), path) for path, source in files
    ]
    shortest, longest = min(lengths), max(lengths)
    rate = files[0][1].info.sample_rate
    if longest[0] - shortest[0] >= _FRAME_S * rate:
        raise InputError(
            f"{longest[1]} is {(longest[0] - shortest[0]) / rate:.1f} s longer than {shortest[1]}",
            "score stems of the same recording",
        )
    if longest[0] != shortest[0]:
        _LOG.warning(
            "%s is %d samples longer than %s: cut", longest[1], longest[0] - shortest[0], shortest[1]
        )
    return shortest[0]
