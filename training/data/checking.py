"""Finds all that is wrong with a data folder, by decoding it."""

import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stemwright.core.errors import InputError
from stemwright.training.data.listing import Entry, Fault, Listing
from stemwright.training.data.music_layouts import mixture_of
from stemwright.training.data.pack import FULL_SCALE
from stemwright.training.data.pack_index import Recording
from stemwright.training.data.pack_making import write_unit
from stemwright.training.data.pack_writer import AudioFile, Unusable
from stemwright.training.data.packing import Progress

_RATE = 8000  # samples are thrown away again; they are brought to a low rate only to be few
_LARGEST_REST_DB = -40.0  # chosen here: MUSDB18's lossy mixtures are below it


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found.

    Parameters
    ----------
    faults
        What cannot be used, and would be left out of a pack.
    notes
        What can be used and is odd: mixtures that are not the sum of their stems, silent songs.
    """

    faults: tuple[Fault, ...]
    notes: tuple[Fault, ...]


def check(listing: Listing, *, progress: Progress | None = None) -> Findings:
    """Decode everything and find what is wrong with it.

    Parameters
    ----------
    listing
        Of a data folder.
    progress
        Called for each song or file.
    """
    faults, notes = list(listing.faults), []
    units = [
        (name, tuple(unit)) for name, unit in itertools.groupby(listing.entries, key=lambda one: one.name)
    ]
    with (
        tempfile.TemporaryDirectory(prefix="stemwright-") as folder,
        AudioFile(Path(folder), sample_rate=_RATE, channels=1) as audio,
    ):
        for done, (name, entries) in enumerate(units, start=1):
            try:
                written = write_unit(audio, entries, silence_is_fault=listing.kind != "stems")
                notes += [Fault(name=name, reason=odd) for odd in _oddities(audio, entries, written)]
            except (InputError, Unusable) as error:
                faults.append(Fault(name=name, reason=str(error)))
            audio.truncate(0)
            if progress is not None:
                progress(done, len(units))
    return Findings(faults=tuple(faults), notes=tuple(notes))


def _oddities(audio: AudioFile, entries: Sequence[Entry], written: Sequence[Recording]) -> list[str]:
    odd = []
    if all(one.peak == 0 for one in written):
        odd.append("is silent")
    mixture = mixture_of(entries[0])
    if mixture is not None:
        total = np.sum([_samples(audio, one) for one in written], axis=0)
        start = audio.frames
        try:
            whole = _samples(audio, audio.write(mixture)[0])
        except InputError as error:
            return [*odd, f"has a mixture that cannot be used: {error.message}"]
        finally:
            audio.truncate(start)
        if len(whole) != len(total):
            return [*odd, "has a mixture of another length than its stems"]
        rest_db = 10 * np.log10(
            max(1e-12, np.square(whole - total).sum()) / max(1e-12, np.square(total).sum())
        )
        if rest_db > _LARGEST_REST_DB:
            odd.append(f"has a mixture that is not the sum of its stems: the rest is at {rest_db:.0f} dB")
    return odd


def _samples(audio: AudioFile, one: Recording) -> npt.NDArray[np.float64]:
    stored = audio.read(one.offset, one.offset + one.frames)[:, 0]
    return stored.astype(np.float64) * (one.gain / FULL_SCALE)
