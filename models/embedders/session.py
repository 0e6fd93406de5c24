"""Embedder sessions: a sound in, one embedding for each frame out."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InputError, ModelFileError, OptionError
from stemwright.core.features import Features
from stemwright.models.embedders.preparation import Window, mono_of, prepared, windows_of
from stemwright.models.manifest import Licence, Preparation
from stemwright.models.registry.installed import AnyInstalled, InstalledEmbedder, InstalledTagger
from stemwright.models.registry.store import ModelStore, open_any
from stemwright.models.sessions.plain_graphs import SharedGraph
from stemwright.models.sessions.runtimes.contract import SessionOptions
from stemwright.models.taggers.session import TaggerSession

Embedding = npt.NDArray[np.float16] | npt.NDArray[np.float32]
_LARGEST_BATCH = 4  # chosen here: windows are seconds long, and batches of them take memory, not time


@dataclass(frozen=True, kw_only=True)
class EmbedderFacts:
    """What there is to know of an embedder.

    Parameters
    ----------
    name
        Under which it was opened.
    sha256
        Of its graph.
    sample_rate
        At which it hears, in Hz.
    size
        Length E of an embedding.
    precision
        What embeddings are rounded to.
    statistics_name
        What it is called in files of published statistics; empty: nothing is published.
    preparation
        What is done to a sound before the network.
    licence
        Terms of the weights.
    """

    name: str
    sha256: str
    sample_rate: int
    size: int
    precision: Literal["float16", "float32"]
    statistics_name: str
    preparation: Preparation
    licence: Licence


class AudioEmbedder(Protocol):
    """A network that embeds sounds."""

    @property
    def facts(self) -> EmbedderFacts:
        """What there is to know of it."""

    def embed(self, samples: FloatArray, sample_rate: int) -> FloatArray:
        """Embed a sound; `as_stored` rounds the result to `facts.precision`.

        Parameters
        ----------
        samples
            shape=(channels, n), n >= 1, float32; the mean of the channels is heard.
        sample_rate
            In Hz.

        Returns
        -------
        FloatArray
            float32, shape=(frames, E), at least one frame.

        Raises
        ------
        InputError
            The sound is too short for a frame, or has samples that are not finite.
        """

    def close(self) -> None:
        """Free the network's memory."""


class EmbedderSession:
    """An installed embedder on a device; may be used from several threads, one call at a time runs.

    Parameters
    ----------
    embedder
        An installed embedder.
    options
        Device and threads; embedders always compute in float32.

    Raises
    ------
    DeviceError
        The device asked for cannot be had.
    ModelFileError
        The graph is damaged or does not fit its manifest.
    """

    def __init__(self, embedder: InstalledEmbedder, options: SessionOptions | None = None) -> None:
        manifest = embedder.manifest
        self.manifest = manifest
        self.facts = EmbedderFacts(
            name=embedder.name,
            sha256=embedder.sha256,
            sample_rate=manifest.audio.sample_rate,
            size=manifest.embedding_size,
            precision=manifest.precision,
            statistics_name=manifest.statistics_name,
            preparation=manifest.preparation,
            licence=manifest.licence,
        )
        self._features = (
            Features(
                transform=manifest.transform, bands=manifest.bands, sample_rate=manifest.audio.sample_rate
            )
            if manifest.transform is not None and manifest.bands is not None
            else None
        )
        self._runtime = SharedGraph(
            embedder.graph_path, input_name=manifest.input, outputs=(manifest.output,), options=options
        )

    def embed(self, samples: FloatArray, sample_rate: int) -> FloatArray:
        """Embed a sound, see `AudioEmbedder.embed`."""
        manifest = self.manifest
        sound = prepared(mono_of(samples), sample_rate, self.facts.sample_rate, manifest.preparation)
        windows = windows_of(len(sound), manifest.windows)
        if not windows:
            raise too_short(self.facts.name, len(sound) / self.facts.sample_rate)
        parts = [self._run(batch) for batch in _batches(sound, windows)]
        frames = np.concatenate(parts)
        if not np.isfinite(frames).all():
            raise ModelFileError(
                f"{self.facts.name} gives values that are not finite", "verify it, or import it again"
            )
        return frames

    def close(self) -> None:
        """Free the network's memory."""
        self._runtime.close()

    def _run(self, batch: FloatArray) -> FloatArray:
        """Embed windows of one length, shape=(B, n) -> (B * N, E)."""
        (made,) = self._runtime.run(self._heard(batch))
        if made.ndim != 3 or made.shape[0] != len(batch) or made.shape[2] != self.facts.size:
            raise ModelFileError(
                f"{self.facts.name} gives embeddings of shape {list(made.shape)}, which are not those of its "
                "manifest",
                "import or pull it again",
            )
        return made.reshape(-1, self.facts.size)

    def _heard(self, batch: FloatArray) -> FloatArray:
        transform = self.manifest.transform
        try:
            if self._features is not None:
                return self._features.compute(batch)
            if transform is not None:
                planes = transform.forward_planes(batch)  # [B, 2, F, N]
                return np.ascontiguousarray(np.moveaxis(planes, 1, -1))
        except ValueError as error:
            raise too_short(self.facts.name, batch.shape[1] / self.facts.sample_rate) from error
        return batch


class TaggerEmbedder:
    """A tagger as an embedder: a frame for each of its patches; the last may reach into zeros.

    Parameters
    ----------
    tagger
        An installed tagger with patches of one length.
    options
        Device and threads.

    Raises
    ------
    OptionError
        The tagger hears a sound as a whole, which gives one frame only.
    DeviceError, ModelFileError
        As for EmbedderSession.
    """

    def __init__(self, tagger: InstalledTagger, options: SessionOptions | None = None) -> None:
        manifest = tagger.manifest
        if manifest.patch_frames == 0:
            raise OptionError(
                f"the tagger {tagger.name} hears a sound as a whole: there are no frames to compare",
                "use a tagger with patches, such as yamnet, or an embedder",
            )
        self._tagger = TaggerSession(tagger, options)
        self.facts = EmbedderFacts(
            name=tagger.name,
            sha256=tagger.sha256,
            sample_rate=manifest.audio.sample_rate,
            size=manifest.embedding_size,
            precision="float16",
            statistics_name="",
            preparation=Preparation(),
            licence=manifest.licence,
        )

    def embed(self, samples: FloatArray, sample_rate: int) -> FloatArray:
        """Embed a sound, see `AudioEmbedder.embed`."""
        facts = self.facts
        sound = prepared(mono_of(samples), sample_rate, facts.sample_rate, facts.preparation)
        return self._tagger.patch_embeddings(sound)

    def close(self) -> None:
        """Free the network's memory."""
        self._tagger.close()


def as_stored(frames: FloatArray, precision: Literal["float16", "float32"]) -> Embedding:
    """Round embeddings; what is too large for float16 becomes infinite, as where this is done by numpy."""
    if precision == "float32":
        return frames
    with np.errstate(over="ignore"):
        return frames.astype(np.float16)


def too_short(name: str, seconds: float) -> InputError:
    """Build the error for a sound without a frame."""
    return InputError(
        f"{seconds:.3g} s of sound are too short for a frame of {name}",
        "use longer sounds, or another embedder",
    )


def embedder_session(
    name: str | Path, options: SessionOptions | None = None, store: ModelStore | None = None
) -> AudioEmbedder:
    """Open an embedder or a tagger, or return the session that is open already.

    Parameters
    ----------
    name
        Name or path.
    options
        Device and threads.
    store
        Where the name is looked up; default: the user's store.

    Raises
    ------
    ModelNotFoundError, ModelFileError
        No such embedder (the remedy says how to get it), or a damaged one.
    OptionError
        It separates.
    DeviceError
        The device asked for cannot be had.
    """
    found = open_any(name, store)
    _check_kind(found)
    return _kept(found.folder, found.sha256, options or SessionOptions())


def _check_kind(found: AnyInstalled) -> InstalledEmbedder | InstalledTagger:
    if not isinstance(found, InstalledEmbedder | InstalledTagger):
        raise OptionError(
            f"{found.name} separates and embeds nothing", "run `stemwright models list` to see the embedders"
        )
    return found


@lru_cache(maxsize=4)
def _kept(folder: Path, sha256: str, options: SessionOptions) -> AudioEmbedder:
    """Keep sessions by what they are made of: an embedder that was replaced gets another."""
    found = _check_kind(open_any(folder))
    if isinstance(found, InstalledTagger):
        return TaggerEmbedder(found, options)
    return EmbedderSession(found, options)


def _batches(sound: FloatArray, windows: tuple[Window, ...]) -> Iterator[FloatArray]:
    """Yield windows of equal length together, in order, zeros behind the end of the sound."""
    for samples, group in groupby(windows, key=lambda window: window.samples):
        waiting = list(group)
        for first in range(0, len(waiting), _LARGEST_BATCH):
            chosen = waiting[first : first + _LARGEST_BATCH]
            batch = np.zeros((len(chosen), samples), np.float32)
            for row, window in zip(batch, chosen, strict=True):
                piece = sound[window.start : window.start + samples]
                row[: len(piece)] = piece
            yield batch
