"""Separators that stay open between jobs, as many as are wanted and as memory allows."""

import gc
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from stemwright.core.audio.source import AudioSource
from stemwright.core.errors import OutOfMemoryError
from stemwright.models.registry.store import Installed, ModelStore, open_model
from stemwright.models.separation.separator import Separator
from stemwright.models.sessions.opening import PrecisionChoice, SessionOptions
from stemwright.models.taggers.session import TaggerSession, tagger_session
from stemwright.service.asking import Asker, Wishes
from stemwright.service.results import model_facts
from stemwright.service.tracks import Engine, TrackOptions

T = TypeVar("T")
_LOG = logging.getLogger(__name__)


class WarmEngines:
    """Open engines by model; the one that was used longest ago is closed when one too many is open.

    Parameters
    ----------
    models_dir
        Where installed models are.
    device, precision
        What they run on.
    most
        How many stay open.
    """

    def __init__(self, models_dir: Path, *, device: str, precision: PrecisionChoice, most: int) -> None:
        self._store = ModelStore(models_dir)
        self._options = SessionOptions(device=device, precision=precision)
        self._most = most
        self._open: OrderedDict[tuple[str, str], Engine] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that are open."""
        with self._lock:
            return tuple(name for name, _ in self._open)

    @property
    def provider(self) -> str | None:
        """Provider of a session that is open, None if none is."""
        with self._lock:
            for engine in reversed(self._open.values()):
                for facts in engine.separator.facts.values():
                    return facts.provider
        return None

    def use(self, model: str, work: Callable[[Engine], T]) -> T:
        """Call something with the engine of a model; once more, alone in memory, if it did not fit.

        Raises
        ------
        ModelNotFoundError, ModelFileError
            The model is not installed here, or damaged.
        OutOfMemoryError
            It does not fit by itself either.
        """
        try:
            return work(self.engine(model))
        except OutOfMemoryError:
            if len(self.models) < 2:
                raise
            _LOG.warning("%s does not fit beside the models that are open; closing those", model)
        self.close()
        return work(self.engine(model))

    def engine(self, model: str) -> Engine:
        """Return the engine of a model, opened if it is not yet.

        A model that was replaced in the store is opened anew.
        """
        installed = open_model(model, self._store)
        key = (model, installed.sha256)
        with self._lock:
            if key in self._open:
                self._open.move_to_end(key)
                return self._open[key]
            for stale in [known for known in self._open if known[0] == model]:
                self._close(stale)
            while len(self._open) >= self._most:
                self._close(next(iter(self._open)))
            self._open[key] = engine = self._opened(installed)
            return engine

    def ask(self, model: str, wishes: Wishes, options: TrackOptions, recording: AudioSource) -> TrackOptions:
        """Return options with the queries that the wishes come to for a recording.

        Raises
        ------
        OptionError
            The model takes no queries, or needs some; or a wish that means nothing.
        InputError
            An example or the recording cannot be read.
        ModelNotFoundError, ModelFileError
            The model or its tagger is not installed here, or damaged.
        """
        installed = open_model(model, self._store)
        asker = Asker(wishes, (installed,), options=self._options, store=self._store)
        return asker.options(options, recording)

    def interchangeable(self, model: str) -> bool:
        """Whether the stems of a model are equals, such as speakers; raises what `engine` does."""
        installed = open_model(model, self._store)
        parts = (part.manifest for part in installed.parts)
        return any(manifest.stem_kind == "interchangeable" for manifest in parts)

    def tagger(self, name: str) -> TaggerSession:
        """Return a tagger, which stays open: it is small beside a model.

        Raises
        ------
        ModelNotFoundError, ModelFileError, OptionError
            No such tagger, or a damaged one.
        """
        return tagger_session(name, SessionOptions(device="cpu"), self._store)

    def close(self) -> None:
        """Close all."""
        with self._lock:
            for key in list(self._open):
                self._close(key)
        gc.collect()

    def _opened(self, installed: Installed) -> Engine:
        separator = Separator.open(installed, options=self._options, store=self._store)
        return Engine(separator=separator, models=model_facts((installed,), None))

    def _close(self, key: tuple[str, str]) -> None:
        self._open.pop(key).separator.close()
