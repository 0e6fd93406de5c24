"""Models that are asked: every true stem whose name is a class of sound is asked for by it."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InputError, OptionError
from stemwright.eval.datasets.contract import OpenTrack
from stemwright.eval.separating import Report, separated_blocks
from stemwright.models.query.matching import resolve
from stemwright.models.query.queries import AskedStem, QueryMaker
from stemwright.models.separation.queries import StemQuery
from stemwright.models.separation.separator import CancelToken, SeparationOptions, Separator


@dataclass(frozen=True, kw_only=True)
class AskedEstimator:
    """An opened model that takes queries; see estimating.Estimator.

    Parameters
    ----------
    separator, separation
        The model and its options.
    maker
        Makes its queries.
    """

    separator: Separator
    separation: SeparationOptions
    maker: QueryMaker
    interchangeable: bool = field(default=False, init=False)

    def stems(self, track: OpenTrack) -> tuple[str, ...]:
        """Return the true stems whose names mean a sound, each sound once.

        Raises
        ------
        InputError
            There is none.
        """
        asked = asked_for(tuple(track.references))
        if not asked:
            names = ", ".join(track.references)
            raise InputError(
                f"no stem of {names} is called as a class of sound",
                "name the files of true stems after what they hold, such as `dog.wav`",
            )
        return tuple(asked)

    def notes(self, track: OpenTrack) -> tuple[str, ...]:
        """Tell what was asked for each stem."""
        return tuple(
            f"{name} was asked for as {sound}" for name, sound in asked_for(tuple(track.references)).items()
        )

    def blocks(
        self,
        track: OpenTrack,
        stems: tuple[str, ...],
        report: Report,
        cancel: CancelToken,
    ) -> Iterator[dict[str, FloatArray]]:
        """See Estimator."""
        try:
            made = self.maker.classes([_words(name) for name in stems])
        except OptionError as error:  # of this track's names, not of what the run was asked
            raise InputError(error.message, error.remedy) from error
        asked = dict(zip(stems, made, strict=True))
        options = dataclasses.replace(
            self.separation, stems=None, queries=tuple(_named(name, one) for name, one in asked.items())
        )
        yield from separated_blocks(self.separator, track, stems, options, report=report, cancel=cancel)


@lru_cache(maxsize=256)
def _sound(name: str) -> tuple[str, str] | None:
    try:
        sound = resolve(_words(name))
    except OptionError:
        return None
    return sound.mid, sound.name


def asked_for(names: tuple[str, ...]) -> dict[str, str]:
    """Return the names that mean a sound, with its name in the ontology; of two of one sound the first."""
    asked: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        sound = _sound(name)
        if sound is not None and sound[0] not in taken:
            taken.add(sound[0])
            asked[name] = sound[1]
    return asked


def _words(name: str) -> str:
    return name.replace("_", " ")


def _named(name: str, stem: AskedStem) -> StemQuery:
    return dataclasses.replace(stem.query, name=name)
