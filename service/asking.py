"""What a user asks a model for that separates by queries, and what becomes of it for each recording."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stemwright.core.audio.source import AudioSource
from stemwright.core.errors import OptionError
from stemwright.models.manifest import Manifest, QueryRules
from stemwright.models.query.detection import LEVELS, detect
from stemwright.models.query.queries import MAX_STEMS, AskedStem, QueryMaker
from stemwright.models.registry.store import Installed, ModelStore
from stemwright.models.sessions.runtimes.contract import SessionOptions
from stemwright.models.taggers.session import TaggerSession, tagger_session
from stemwright.service.tracks import TrackOptions

_HOW = "ask with --query, --query-audio or --auto"


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is asked for.

    Parameters
    ----------
    labels
        Classes of sound by id, index, name or words.
    examples
        Recordings, or folders of recordings, of the sounds that are looked for; a stem for each.
    levels
        Levels of the ontology whose active branches become stems; automatic queries stand alone.
    max_stems
        Most automatic stems of a level.

    Raises
    ------
    OptionError
        Automatic queries beside others, or a level that there is not.
    """

    labels: tuple[str, ...] = ()
    examples: tuple[Path, ...] = ()
    levels: tuple[int, ...] = ()
    max_stems: int = MAX_STEMS

    def __post_init__(self) -> None:
        if self.levels and (self.labels or self.examples):
            raise OptionError(
                "automatic queries leave no room for others", "either name sounds or let them be found"
            )
        for level in self.levels:
            if level not in LEVELS:
                raise OptionError(f"the ontology has no level {level}", f"give 1 to {LEVELS[-1]}")

    @property
    def any(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.labels or self.examples or self.levels)


def query_rules(models: Sequence[Installed]) -> QueryRules | None:
    """Return the rules of the model that takes queries; None where the stems are fixed."""
    found = [model.manifest.query for model in models if isinstance(model.manifest, Manifest)]
    return next((rules for rules in found if rules is not None), None)


class Asker:
    """Turns wishes into the queries of recordings.

    Labels and examples mean the same for every recording and are made when this is; what is automatic is
    made for each recording, which is heard for it.

    Parameters
    ----------
    wishes
        What is asked for.
    models
        The models that separate.
    options
        Device and threads of the tagger.
    store
        Where the tagger is found; None for the user's store.

    Raises
    ------
    OptionError
        Queries for models with fixed stems, none for one that takes them, or a label that means nothing.
    InputError
        An example that cannot be read or is silent.
    ModelNotFoundError, ModelFileError
        The model's tagger is not installed, or does not fit.
    """

    def __init__(
        self,
        wishes: Wishes,
        models: Sequence[Installed],
        *,
        options: SessionOptions | None = None,
        store: ModelStore | None = None,
    ) -> None:
        rules = query_rules(models)
        if rules is None and wishes.any:
            stems = ", ".join(dict.fromkeys(stem for model in models for stem in model.manifest.stems))
            raise OptionError(
                f"{models[0].name} separates fixed stems and takes no queries",
                f"its stems are {stems}; for queries use a model that takes them",
            )
        if rules is not None and not wishes.any:
            raise OptionError(f"{models[0].name} separates what it is asked for", _HOW)
        self._wishes = wishes
        self._maker: QueryMaker | None = None
        self._tagger: TaggerSession | None = None
        self._fixed: tuple[AskedStem, ...] = ()
        if rules is not None:
            self._tagger = tagger_session(rules.tagger, options, store)
            self._maker = QueryMaker(rules, self._tagger)
            self._fixed = self._maker.fixed(wishes.labels, wishes.examples)

    @property
    def automatic(self) -> bool:
        """Whether the stems depend on the recording."""
        return bool(self._wishes.levels)

    def options(self, options: TrackOptions, recording: AudioSource | None = None) -> TrackOptions:
        """Return the options with the queries for one recording.

        Parameters
        ----------
        options
            Without queries.
        recording
            For automatic queries, which read it once.

        Raises
        ------
        InputError
            The recording cannot be read.
        OptionError
            Nothing was heard in it.
        """
        asked = self._fixed
        if self.automatic and self._maker is not None and self._tagger is not None:
            if recording is None:
                raise ValueError("automatic queries need the recording")
            heard = detect(recording, self._tagger)
            asked = self._maker.automatic(heard, self._wishes.levels, max_stems=self._wishes.max_stems)
        if not asked:
            return options
        queries = tuple(stem.query for stem in asked)
        return replace(options, asked=asked, separation=replace(options.separation, queries=queries))
