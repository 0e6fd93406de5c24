"""Mixtures that are listed and not drawn: LibriMix's metadata.

References
----------
J. Cosentino et al., "LibriMix: An Open-Source Dataset for Generalizable Speech Separation", arXiv 2005.11262.
"""

import csv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from stemwright.core.errors import InputError
from stemwright.training.data import draws
from stemwright.training.data.examples import Example
from stemwright.training.data.pack import Pack


@dataclass(frozen=True, kw_only=True)
class ListedMixture:
    """A mixture of a list: recordings (places in the pack's index) and their gains."""

    name: str
    recordings: tuple[int, ...]
    gains: tuple[float, ...]


class ListedMixtures:
    """Mixtures by LibriMix's metadata, of utterances in a pack of LibriSpeech; without its noise.

    Parameters
    ----------
    pack
        Of speech; one channel.
    table
        A file of LibriMix's `metadata` folder, such as `libri2mix_train-clean-100.csv`: columns mixture_ID,
        source_1_path, source_1_gain and so on.
    samples
        Length of an example; shorter mixtures are padded behind.

    Raises
    ------
    InputError
        The table is no such file, or names an utterance that the pack does not have.
    """

    def __init__(self, pack: Pack, table: Path, *, samples: int) -> None:
        self.pack = pack
        self.mixtures = read_metadata(table, pack)
        self._frames = samples

    @property
    def names(self) -> tuple[str, ...]:
        """The voices, in the list's order."""
        return tuple(f"speaker{number + 1}" for number in range(len(self.mixtures[0].recordings)))

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.pack.sample_rate

    def example(self, seed: int, step: int, index: int) -> Example:
        """Draw a segment of a mixture."""
        rng = draws.generator(seed, "listed", step, index)
        chosen = int(rng.integers(len(self.mixtures)))
        start = int(rng.integers(max(1, self.frames(chosen) - self._frames + 1)))
        return self._segment(chosen, start, self._frames)

    def whole(self, number: int) -> Example:
        """Return a whole mixture, cut to its shortest voice ("min")."""
        return self._segment(number, 0, self.frames(number))

    def frames(self, number: int) -> int:
        """Length of a mixture."""
        return min(self.pack.index.recordings[one].frames for one in self.mixtures[number].recordings)

    def _segment(self, number: int, start: int, frames: int) -> Example:
        mixture = self.mixtures[number]
        within = min(frames, self.frames(number) - start)
        targets = np.stack([
            np.pad(self.pack.read(one, start, within) * np.float32(gain), ((0, 0), (0, frames - within)))
            for one, gain in zip(mixture.recordings, mixture.gains, strict=True)
        ])  # fmt: skip
        return Example(mixture=targets.sum(axis=0), targets=targets)


def read_metadata(table: Path, pack: Pack) -> tuple[ListedMixture, ...]:
    """Read LibriMix's metadata and find its utterances in a pack, by their path or the end of it.

    Raises
    ------
    InputError
        As for `ListedMixtures`.
    """
    places = {PurePosixPath(pack.index.recordings[n].name).stem: n for n in pack.numbers}
    try:
        with table.open(newline="", encoding="utf-8") as lines:
            mixtures = tuple(_mixture(row, places, pack) for row in csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, KeyError, ValueError) as error:
        raise InputError(
            f"{table} is no metadata of LibriMix: {error}", "give one of its CSV files"
        ) from error
    if not mixtures:
        raise InputError(f"{table} lists no mixtures", "give one of LibriMix's CSV files")
    return mixtures


def _mixture(row: dict[str, str], places: dict[str, int], pack: Pack) -> ListedMixture:
    count = sum(f"source_{number}_path" in row for number in (1, 2, 3, 4))
    if count == 0:
        raise ValueError("it has no column source_1_path")
    recordings = []
    for number in range(1, count + 1):
        stem = PurePosixPath(row[f"source_{number}_path"]).stem  # unique in LibriSpeech
        if stem not in places:
            raise InputError(
                f"the pack {pack.folder} has no utterance {stem}", "pack all of LibriSpeech's part"
            )
        recordings.append(places[stem])
    gains = tuple(float(row[f"source_{number}_gain"]) for number in range(1, count + 1))
    return ListedMixture(name=row["mixture_ID"], recordings=tuple(recordings), gains=gains)
