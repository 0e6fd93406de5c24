"""Reading folders of recordings: what counts as an entry, and which links are followed.

Links that lead out of the folder that was given are not followed.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from stemwright.core.errors import InputError, StemwrightError

LINK_REMEDY = "put the recording itself there, or give the folder that the link leads to"


def entries(folder: Path) -> Iterable[os.DirEntry[str]]:
    """Entries by name, without hidden ones (macOS puts `._NAME` beside each file it copies)."""
    with os.scandir(folder) as found:
        return sorted((e for e in found if not e.name.startswith(".")), key=lambda entry: entry.name)


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a folder or a link to one; a link that leads round in a circle is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_file_or_link(entry: "os.DirEntry[str]") -> bool:
    """Whether it may be a recording; reading a pipe or a device might never end."""
    return entry.is_symlink() or entry.is_file(follow_symlinks=False)


def link_problem(path: Path, root: Path) -> StemwrightError | None:
    """Return what is wrong with a link, None with what is no link or one within `root`."""
    if not path.is_symlink():
        return None
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return InputError(f"{path} is a link to nothing", LINK_REMEDY)
    if not real.is_relative_to(root):
        return InputError(f"{path} is a link out of the folder", LINK_REMEDY)
    if not (real.is_file() or real.is_dir()):
        return InputError(f"{path} is a link to something that is no file", LINK_REMEDY)
    return None
