"""What a change of a model costs in quality: SDR against true stems, before and after."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.source import open_source
from stemwright.core.errors import OptionError
from stemwright.models.registry.store import Installed
from stemwright.models.separation.separator import Separator
from stemwright.models.sessions.opening import SessionOptions

EXCERPT_S = 30.0
_SUFFIXES = (".wav", ".flac")
_MIXTURE = "mixture"
# A stem below -60 dB of full scale tells nothing: its SDR is that of next to nothing.
_SILENT = 1e-6


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """SDR of each stem of each song, in dB, with one model and with another.

    Attributes
    ----------
    before, after
        By song and stem.
    seconds
        Length of the excerpts.
    """

    before: Mapping[tuple[str, str], float]
    after: Mapping[tuple[str, str], float]
    seconds: float

    @property
    def changes(self) -> dict[tuple[str, str], float]:
        """Change of each stem's SDR in dB; a loss is negative."""
        return {key: self.after[key] - self.before[key] for key in self.before}

    @property
    def worst(self) -> float:
        """The largest loss of any stem of any song, as a change in dB."""
        return min(self.changes.values())

    @property
    def songs(self) -> int:
        """Number of songs."""
        return len({song for song, _ in self.before})


def song_folders(folder: Path) -> tuple[Path, ...]:
    """Return the folders in a folder that hold a mixture and stems; raises OptionError if there is none."""
    found = tuple(path for path in sorted(folder.glob("*/")) if _MIXTURE in _tracks(path))
    if not found:
        raise OptionError(
            f"{folder} holds no songs with true stems",
            "give a folder of folders with mixture.wav and a file for each stem (.wav or .flac)",
        )
    return found


def compare_models(
    before: Installed,
    after: Installed,
    folder: Path,
    *,
    seconds: float = EXCERPT_S,
    options: SessionOptions | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Separate an excerpt from the middle of each song with two models.

    Parameters
    ----------
    before, after
        Models of the same stems.
    folder
        See `song_folders`.
    seconds
        Length of the excerpts; shorter songs are taken whole.
    options
        Of the sessions; None for float32 on the CPU.
    note
        Told what is being done.

    Raises
    ------
    OptionError
        No songs, or none of their stems is one of the models'.
    """
    options = options or SessionOptions(device="cpu", precision="float32")
    songs = song_folders(folder)
    results: list[dict[tuple[str, str], float]] = []
    for label, model in (("before", before), ("after", after)):
        with Separator.open(model, options=options) as separator:
            found: dict[tuple[str, str], float] = {}
            for song in songs:
                note(f"{label}: {song.name}")
                scores = _scores(separator, song, seconds)
                found |= {(song.name, stem): value for stem, value in scores.items()}
            results.append(found)
    if not results[0]:
        raise OptionError(
            f"no song in {folder} has a stem that {before.name} gives",
            f"name the files after the model's stems: {', '.join(before.manifest.stems)}",
        )
    return Comparison(before=results[0], after=results[1], seconds=seconds)


def _tracks(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in _SUFFIXES}


def _scores(separator: Separator, folder: Path, seconds: float) -> dict[str, float]:
    tracks = _tracks(folder)
    with open_source(tracks[_MIXTURE]) as whole:
        length = (whole.info.frames or 0) / whole.info.sample_rate
    start = max(0.0, (length - seconds) / 2)
    end = start + seconds if length > seconds else None
    true = {stem: _read(tracks[stem], start, end) for stem in separator.stems if stem in tracks}
    with open_source(tracks[_MIXTURE], start_s=start, end_s=end) as source:
        with separator.separate(source) as separation:
            blocks = [block.stems for block in separation]
    return {
        stem: sdr(samples, np.concatenate([block[stem] for block in blocks], axis=1))
        for stem, samples in true.items()
        if float(np.square(samples, dtype=np.float64).mean()) > _SILENT
    }


def _read(path: Path, start: float, end: float | None) -> FloatArray:
    with open_source(path, start_s=start, end_s=end) as source:
        return np.concatenate(list(source.blocks()), axis=1)


def sdr(true: FloatArray, estimate: FloatArray) -> float:
    """Energy of a true stem over that of the error, over the whole excerpt, in dB.

    Both have shape=(channels, samples).
    """
    reference = float(np.square(true, dtype=np.float64).sum())
    error = float(np.square(true.astype(np.float64) - estimate).sum())
    return 10.0 * float(np.log10(max(reference, 1e-30) / max(error, 1e-30)))
