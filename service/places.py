"""Where the files of a track go."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from stemwright.service.naming import NameTemplate

Layout = Literal["file_per_stem", "joined", "stem.mp4"]
"""One file a stem; all stems as the channels of one file, in order; or the DJ container."""


@dataclass(frozen=True, kw_only=True)
class PlacedFile:
    """A file below the output folder and the stems it holds."""

    path: PurePosixPath
    stems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a track's files go.

    Parameters
    ----------
    out
        The output folder.
    label
        A safe name of the track, for the staging folder.
    files
        What to write, relative to `out`.
    result
        The result file, relative to `out`; None for none.
    replace
        Whether files of these names may be replaced.
    stale
        Files of an earlier run to remove when the new ones are in place, relative to `out`.
    """

    out: Path
    label: str
    files: tuple[PlacedFile, ...]
    result: PurePosixPath | None
    replace: bool = False
    stale: tuple[PurePosixPath, ...] = field(default=())

    @property
    def published(self) -> tuple[PurePosixPath, ...]:
        """All files in the order in which they are put in place."""
        paths = tuple(file.path for file in self.files)
        return paths if self.result is None else (*paths, self.result)


def place_track(
    out: Path,
    track: str,
    stems: tuple[str, ...],
    *,
    layout: Layout,
    extension: str,
    template: NameTemplate,
    model: str,
    groups: Mapping[str, str] | None = None,
) -> Place:
    """Return the place of a track by a name template; `track` and `model` are safe names already.

    Stems of a group get a folder of its name beside the other stems.

    The one file of layout `stem.mp4` has the track's name in the place of the stem's.
    """
    if layout == "stem.mp4":
        paths = template.paths(track, (track,), extension, model)
        files: tuple[PlacedFile, ...] = (PlacedFile(path=paths.files[track], stems=stems),)
    else:
        paths = template.paths(track, stems, extension, model)
        files = tuple(
            PlacedFile(path=_grouped(paths.files[stem], (groups or {}).get(stem)), stems=(stem,))
            for stem in stems
        )
    return Place(out=out, label=track, files=files, result=paths.result)


def _grouped(path: PurePosixPath, group: str | None) -> PurePosixPath:
    return path if group is None else path.parent / group / path.name


def earlier_files(out: Path, result: PurePosixPath) -> tuple[PurePosixPath, ...]:
    """Files that an earlier result file says were written, relative to `out`; none where there is none.

    Only files below the result file's own folder count: nothing else was written by that run.
    """
    try:
        written = [PurePosixPath(file["path"]) for file in json.loads((out / result).read_bytes())["files"]]
    except (OSError, ValueError, TypeError, KeyError):
        return ()
    return tuple(
        result.parent / path for path in written if not path.is_absolute() and ".." not in path.parts
    )
