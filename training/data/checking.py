"""Finds all that is wrong with a data folder, by decoding it."""

import itertools
import tempfile
from pathlib import Path

from stemwright.core.errors import InputError
from stemwright.training.data.listing import Fault, Listing
from stemwright.training.data.pack_making import write_unit
from stemwright.training.data.pack_writer import AudioFile, Unusable
from stemwright.training.data.packing import Progress

_RATE = 8000  # samples are thrown away again; they are brought to a low rate only to be few


def check(listing: Listing, *, progress: Progress | None = None) -> tuple[Fault, ...]:
    """Decode everything and return what cannot be used: what `make_pack` would leave out.

    Parameters
    ----------
    listing
        Of a data folder.
    progress
        Called for each song or file.
    """
    faults = list(listing.faults)
    units = [
        (name, tuple(unit)) for name, unit in itertools.groupby(listing.entries, key=lambda one: one.name)
    ]
    with (
        tempfile.TemporaryDirectory(prefix="stemwright-") as folder,
        AudioFile(Path(folder), sample_rate=_RATE, channels=1) as audio,
    ):
        for done, (name, entries) in enumerate(units, start=1):
            try:
                write_unit(audio, entries, silence_is_fault=listing.kind != "stems")
            except (InputError, Unusable) as error:
                faults.append(Fault(name=name, reason=str(error)))
            audio.truncate(0)
            if progress is not None:
                progress(done, len(units))
    return tuple(faults)
