"""Tagger sessions: which classes sound in a segment, and the segment's embedding."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.resample import Resampler
from stemwright.core.errors import ModelFileError
from stemwright.core.features import Features
from stemwright.models.manifest import Tagger
from stemwright.models.registry.installed import InstalledTagger
from stemwright.models.registry.store import ModelStore, open_tagger
from stemwright.models.sessions.plain_graphs import SharedGraph
from stemwright.models.sessions.runtimes.contract import SessionOptions

_LARGEST_BATCH = 16  # chosen here: from about 8 patches on, larger batches are no faster on two cores


@dataclass(frozen=True, kw_only=True)
class TaggerResult:
    """What a tagger hears in a segment.

    Parameters
    ----------
    probabilities
        Of each of its classes, 0..1, float32, shape=(K,). Classes are not exclusive.
    embedding
        float32, shape=(E,).
    """

    probabilities: FloatArray
    embedding: FloatArray


@dataclass(frozen=True, kw_only=True)
class TaggerFacts:
    """What a tagger session really uses: device, CPU threads, and why that device."""

    device: str
    threads: int
    chosen_because: str


class TaggerSession:
    """A tagger on a device; may be used from several threads, one call at a time runs.

    Parameters
    ----------
    tagger
        An installed tagger.
    options
        Device and threads; taggers always compute in float32.

    Raises
    ------
    DeviceError
        The device asked for cannot be had.
    ModelFileError
        The graph is damaged or does not fit its manifest.
    """

    def __init__(self, tagger: InstalledTagger, options: SessionOptions | None = None) -> None:
        manifest = tagger.manifest
        self.name = tagger.name
        self.manifest: Tagger = manifest
        self._features = Features(
            transform=manifest.transform, bands=manifest.bands, sample_rate=manifest.audio.sample_rate
        )
        self._runtime = runtime = SharedGraph(
            tagger.graph_path,
            input_name=manifest.features,
            outputs=(manifest.probabilities, manifest.embedding),
            options=options,
        )
        self.facts = TaggerFacts(
            device=str(runtime.choice.device),
            threads=runtime.threads,
            chosen_because=runtime.choice.because,
        )

    @property
    def sample_rate(self) -> int:
        """Rate at which it hears, in Hz."""
        return self.manifest.audio.sample_rate

    def segment(self, samples: FloatArray, sample_rate: int) -> TaggerResult:
        """Hear one segment.

        Parameters
        ----------
        samples
            shape=(channels, n), n >= 1, float32; the mean of the channels is heard.
        sample_rate
            In Hz.
        """
        return self.segments([samples], sample_rate)[0]

    def segments(self, segments: Sequence[FloatArray], sample_rate: int) -> list[TaggerResult]:
        """Hear several segments, each on its own; all their patches share batches.

        As segment. A segment of several patches gets the means of their probabilities and embeddings.
        """
        patches = [self._patches(self._at_rate(samples, sample_rate)) for samples in segments]
        probabilities, embeddings = self._run(patches)
        bounds = np.cumsum([0, *(len(one) for one in patches)])
        return [
            TaggerResult(
                probabilities=np.asarray(probabilities[first:last].mean(axis=0), np.float32),
                embedding=np.asarray(embeddings[first:last].mean(axis=0), np.float32),
            )
            for first, last in itertools.pairwise(bounds)
        ]

    def patch_embeddings(self, waveform: FloatArray) -> FloatArray:
        """Compute the embedding of each patch of a sound.

        Parameters
        ----------
        waveform
            Mono, at the tagger's rate: float32, shape=(n,), n >= 1.

        Returns
        -------
        FloatArray
            float32, shape=(patches, E); the last patch may reach into zeros behind the sound.
        """
        return self._run([self._patches(waveform)])[1]

    def close(self) -> None:
        """Free the network's memory."""
        self._runtime.close()

    def _at_rate(self, samples: FloatArray, sample_rate: int) -> FloatArray:
        if samples.ndim != 2 or samples.shape[1] == 0:
            raise ValueError(f"samples have shape {samples.shape}, expected (channels, n), n >= 1")
        mono = samples.mean(axis=0, keepdims=True, dtype=np.float32)
        resampler = Resampler(sample_rate, self.sample_rate, 1)
        at_rate: FloatArray = np.concatenate([resampler.push(mono), resampler.flush()], axis=1)[0]
        return at_rate

    def _patches(self, waveform: FloatArray) -> FloatArray:
        """Cut a waveform, with zeros behind it to whole patches, to features [patches, frames, bands]."""
        manifest, features = self.manifest, self._features
        if manifest.patch_frames == 0:
            wanted = max(len(waveform), features.samples(manifest.min_frames))
            return features.compute(np.pad(waveform, (0, wanted - len(waveform))))[None]
        first = features.samples(manifest.patch_frames)
        step = manifest.patch_hop * manifest.transform.hop
        count = 1 + max(0, -(-(len(waveform) - first) // step))
        padded = np.pad(waveform, (0, first + (count - 1) * step - len(waveform)))
        frames = features.compute(padded)
        places = range(0, count * manifest.patch_hop, manifest.patch_hop)
        return np.stack([frames[place : place + manifest.patch_frames] for place in places])

    def _run(self, patches: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
        """Run all patches in as few batches as equal lengths and the largest batch allow."""
        flat = [patch for group in patches for patch in group]
        results: list[tuple[FloatArray, FloatArray]] = []
        start = 0
        while start < len(flat):
            stop = start + 1
            while stop < len(flat) and stop - start < _LARGEST_BATCH and len(flat[stop]) == len(flat[start]):
                stop += 1
            heard, embedded = self._runtime.run(np.stack(flat[start:stop]))
            results.append((heard, embedded))
            start = stop
        probabilities, embeddings = (np.concatenate(parts) for parts in zip(*results, strict=True))
        self._check(probabilities, embeddings)
        return probabilities, embeddings

    def _check(self, probabilities: FloatArray, embeddings: FloatArray) -> None:
        sizes = probabilities.shape[1:], embeddings.shape[1:]
        if sizes != ((len(self.manifest.classes),), (self.manifest.embedding_size,)):
            raise ModelFileError(
                f"the tagger {self.name} gives {sizes[0]} probabilities and {sizes[1]} of embedding, which "
                "are not those of its manifest",
                "import or pull the model again",
            )


def tagger_session(
    name: str | Path, options: SessionOptions | None = None, store: ModelStore | None = None
) -> TaggerSession:
    """Open a tagger, or return the session that is open already.

    Parameters
    ----------
    name
        Name or path of a tagger.
    options
        Device and threads.
    store
        Where the name is looked up; default: the user's store.

    Raises
    ------
    ModelNotFoundError, ModelFileError
        No such tagger, or a damaged one.
    OptionError
        It is not a tagger.
    DeviceError
        The device asked for cannot be had.
    """
    tagger = open_tagger(name, store)
    return _kept(tagger.folder, tagger.sha256, options or SessionOptions())


@lru_cache(maxsize=2)
def _kept(folder: Path, sha256: str, options: SessionOptions) -> TaggerSession:
    """Keep sessions by what they are made of: a tagger that was replaced gets another."""
    return TaggerSession(open_tagger(folder), options)
