"""Factors of stems that are fitted over a whole recording, and the place where the stems wait for them."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import ResourceError

_BLOCK = 65_536
"""Samples that are read back at a time: fixed, so that sums do not depend on how the stems came."""
_SPARE_BYTES = 64 << 20
"""Disk space that is left to others; chosen here."""
_SILENT = 1e-12
"""A stem with less than this share of the power of the strongest has no scale to be found."""


class StemSpool:
    """Stems on the disk, in a file without a name that vanishes with this object or its process.

    Parameters
    ----------
    stems, channels, frames
        Shape of all that is going to be stored.

    Raises
    ------
    ResourceError
        The folder for temporary files has not enough room, or cannot be written.
    """

    def __init__(self, stems: int, channels: int, frames: int) -> None:
        self._stems, self._channels = stems, channels
        needed = stems * channels * frames * np.dtype(np.float32).itemsize
        folder = tempfile.gettempdir()
        try:
            free = shutil.disk_usage(folder).free
            self._file = tempfile.TemporaryFile(dir=folder)
        except OSError as error:
            raise ResourceError(
                f"cannot put the stems aside in {folder}: {error.strerror}", "set TMPDIR to another folder"
            ) from error
        if free < needed + _SPARE_BYTES:
            self._file.close()
            raise _full(folder, needed, free)

    def append(self, block: FloatArray) -> None:
        """Store the next samples, shape=(stems, channels, n)."""
        rows = np.ascontiguousarray(block.reshape(-1, block.shape[-1]).T, np.float32)
        try:
            self._file.write(rows.data)
            self._file.flush()  # so that a full disk is told here, and not by close
        except OSError as error:
            folder = tempfile.gettempdir()
            raise _full(folder, rows.nbytes, shutil.disk_usage(folder).free) from error

    def blocks(self) -> Iterator[FloatArray]:
        """Read all from the beginning in blocks of a fixed size, shape=(stems, channels, n)."""
        self._file.seek(0)
        width = self._stems * self._channels
        while data := self._file.read(_BLOCK * width * np.dtype(np.float32).itemsize):
            rows = np.frombuffer(data, np.float32).reshape(-1, width)
            yield np.ascontiguousarray(rows.T).reshape(self._stems, self._channels, -1)

    def close(self) -> None:
        """Remove it."""
        with contextlib.suppress(OSError):  # what could not be written is not wanted any more
            self._file.close()


class Gram:
    """Sums from which the factors follow: products of all stems with each other and the recording.

    Parameters
    ----------
    stems
        Number of stems.
    """

    def __init__(self, stems: int) -> None:
        self._products = np.zeros((stems, stems))
        self._matches = np.zeros(stems)

    def add(self, stems: FloatArray, recording: FloatArray) -> None:
        """Take in stems, shape=(stems, channels, n), and the recording, shape=(channels, n)."""
        rows = stems.reshape(len(stems), -1).astype(np.float64)
        self._products += rows @ rows.T
        self._matches += rows @ recording.reshape(-1).astype(np.float64)

    def factors(self) -> NDArray[np.float64]:
        """Factors that bring the stems' sum nearest to the recording, shape=(stems,); 1 for silent stems.

        Of equally good ones, as for stems that are equal, the smallest are taken.
        """
        factors = np.ones(len(self._matches))
        powers = np.diag(self._products)
        heard = powers > _SILENT * powers.max(initial=0.0)
        if heard.any():
            # Stems of unit power, so that faint ones are fitted as exactly as loud ones.
            scale = 1 / np.sqrt(powers[heard])
            unit = self._products[np.ix_(heard, heard)] * np.outer(scale, scale)
            solved = np.linalg.lstsq(unit, self._matches[heard] * scale, rcond=1e-10)[0]
            factors[heard] = solved * scale
        return factors


def _full(folder: str, needed: int, free: int) -> ResourceError:
    return ResourceError(
        f"{folder} has {free / 1e9:.1f} GB free, the stems need {needed / 1e9:.1f} GB until they are scaled",
        "free some space, or set TMPDIR to another folder",
    )
