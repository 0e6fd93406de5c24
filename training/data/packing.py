"""Opens packs, and the packs of data folders, which are made when they are first used.

This module needs no audio library where the pack is there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stemwright.core.errors import InputError, OutputError
from stemwright.training.data.anchors import AnchorRules
from stemwright.training.data.listing import Layout, Listing, find_recordings
from stemwright.training.data.pack import Pack
from stemwright.training.data.pack_index import FORMAT, is_pack, read_index

Progress = Callable[[int, int], None]
"""Called with the units done and the units in all."""


@dataclass(frozen=True, kw_only=True)
class PackRules:
    """How recordings are stored.

    Parameters
    ----------
    sample_rate
        In Hz; None takes the rate that most of the recordings have.
    channels
        1 (the mean of a recording's channels) or 2 (the first two, mono ones doubled); None takes 2 if any
        recording has two or more.
    anchors
        How segments of sound events are found; only of events.
    """

    sample_rate: int | None = None
    channels: int | None = None
    anchors: AnchorRules | None = None


def open_data(
    where: Path,
    rules: PackRules | None = None,
    *,
    layout: Layout | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Pack:
    """Open a pack, or the pack of a data folder, which is made if it is not there or out of date.

    Parameters
    ----------
    where
        A pack, taken as it is, or a data folder.
    rules, layout
        How to pack a data folder.
    cache
        Where packs of data folders are kept; default: the user's cache folder.
    progress
        Called while packing.

    Raises
    ------
    InputError
        Neither, a damaged pack, or one of other rules; or too much of the data is unusable.
    ResourceError
        No room for the pack.
    """
    rules = rules or PackRules()
    if is_pack(where):
        pack = Pack.open(where)
        if rules.sample_rate not in (None, pack.sample_rate) or rules.channels not in (None, pack.channels):
            raise InputError(
                f"the pack {where} has {pack.sample_rate} Hz and {pack.channels} channels, which is not what "
                "was asked for",
                "pack the data again with that rate and channels",
            )
        return pack
    listing = find_recordings(where, layout)
    fingerprint = fingerprint_of(listing, rules)
    folder = (cache or default_cache()) / fingerprint[:24]
    if not _is_pack_of(folder, fingerprint):
        _pack_once(listing, folder, rules, progress)
    return Pack.open(folder)


def _is_pack_of(folder: Path, fingerprint: str) -> bool:
    return is_pack(folder) and read_index(folder).fingerprint == fingerprint


def _pack_once(listing: Listing, folder: Path, rules: PackRules, progress: Progress | None) -> None:
    """Pack into the cache; of several processes that want the same one packs and the others wait."""
    from stemwright.models.registry.staging import name_lock
    from stemwright.training.data.pack_making import clear_staging, make_pack  # decodes

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write to {folder.parent}: {error.strerror}", "mend its permissions"
        ) from error
    with name_lock(folder.parent, folder.name):
        if not _is_pack_of(folder, fingerprint_of(listing, rules)):
            clear_staging(folder)
            make_pack(listing, folder, rules, progress=progress)


def default_cache() -> Path:
    """Return where packs of data folders are kept."""
    import platformdirs  # not on machines that only read packs

    return Path(platformdirs.user_cache_dir("stemwright")) / "packs"


def fingerprint_of(listing: Listing, rules: PackRules) -> str:
    """Return what tells a pack of this data by these rules from all others."""
    return listing.fingerprint(FORMAT, rules)
