"""The metrics `mse:EMBEDDER`, `mse32:EMBEDDER` and `fad:EMBEDDER` of a track's stems.

A stem is heard as the mean of its channels, as a whole up to `MAX_S` seconds: memory does not grow with the
track, one stem is held at a time.
"""

from collections.abc import Callable, Iterable
from math import ceil
from typing import cast

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InputError
from stemwright.eval.embedding.distances import mean_squared_error, song_to_song
from stemwright.eval.measures.contract import Metric, ScoreOptions, Track
from stemwright.eval.measures.reading import pair_blocks
from stemwright.eval.rows import StemScores
from stemwright.models.embedders.session import AudioEmbedder, Embedding, as_stored, embedder_session
from stemwright.models.registry.catalog import CATALOG
from stemwright.models.registry.store import ModelStore
from stemwright.models.sessions.runtimes.contract import SessionOptions

MAX_S = 1200.0
"""Seconds of a stem that are heard; chosen here, above the longest songs. Embedders may hear less."""

_MEANINGS = {
    "mse": "mean squared error of embeddings, in float16 as published",
    "mse32": "mean squared error of embeddings that were not rounded",
    "fad": "Fréchet distance of a stem's frames from its reference's (song to song)",
}
_COLUMNS = {"mse": "MSE", "mse32": "MSE32", "fad": "FAD"}


def arguments(name: str) -> tuple[str, ...]:
    """Return the embedders that can be asked for: what is installed, then what can be pulled."""
    store = ModelStore()
    installed = [embedder.name for embedder in store.embedders()]
    installed += [tagger.name for tagger in store.taggers() if tagger.manifest.patch_frames]
    known = [entry.name for entry in CATALOG if entry.kind == "embedder"]
    return tuple(dict.fromkeys((*installed, *known)))


def metric(name: str, argument: str) -> Metric:
    """Return the metric.

    Raises
    ------
    ModelNotFoundError
        The embedder is not installed; the remedy says how to get it.
    ModelFileError, DeviceError
        It is damaged, or no runtime is installed.
    """
    facts = embedder_session(argument).facts
    return Metric(
        name=f"{name}:{argument}",
        columns=(f"{_COLUMNS[name]}_{argument}",),
        better="lower",
        unit="",
        meaning=f"{_MEANINGS[name]}: {argument}",
        engine=_score,
        options={
            "embedder": argument,
            "sha256": facts.sha256,
            "precision": "float32" if name == "mse32" else facts.precision,
            "licence": facts.licence.name,
            "max_s": MAX_S,
        },
    )


def _score(track: Track, metrics: tuple[Metric, ...], options: ScoreOptions) -> dict[str, StemScores]:
    wanted: dict[str, list[Metric]] = {}
    for one in metrics:
        wanted.setdefault(one.name.partition(":")[2], []).append(one)
    embedders = {name: embedder_session(name, SessionOptions(threads=options.threads)) for name in wanted}
    scores = {}
    for index, stem in enumerate(track.pairs.names):
        sounds = _stem(track, index)
        values: dict[str, float] = {}
        notes: list[str] = []
        for name, chosen in wanted.items():
            found, said = _values(embedders[name], chosen, sounds, track.pairs.sample_rate)
            values |= found
            notes += said
        if track.pairs.samples > ceil(MAX_S * track.pairs.sample_rate):
            columns = ", ".join(column for one in metrics for column in one.columns)
            notes.append(f"{columns}: of the first {MAX_S:.0f} s")
        scores[stem] = StemScores(values=values, notes=tuple(notes))
    return scores


def _stem(track: Track, index: int) -> tuple[FloatArray, FloatArray]:
    """Read the mean of the channels of one stem and its estimate, shapes=(1, n)."""
    left = ceil(MAX_S * track.pairs.sample_rate)
    parts: tuple[list[FloatArray], list[FloatArray]] = [], []
    for blocks in pair_blocks(track):
        for kept, block in zip(parts, blocks, strict=True):
            kept.append(block[index, :, :left].astype(np.float32).mean(axis=0, dtype=np.float32))
        left -= blocks[0].shape[2]
        if left <= 0:
            break
    return np.concatenate(parts[0])[None], np.concatenate(parts[1])[None]


def _values(
    embedder: AudioEmbedder, metrics: Iterable[Metric], sounds: tuple[FloatArray, FloatArray], rate: int
) -> tuple[dict[str, float], list[str]]:
    """Return the values by column and what there is to say of them."""
    values, notes = {one.columns[0]: float("nan") for one in metrics}, []
    try:
        reference, estimate = (embedder.embed(sound, rate) for sound in sounds)
    except InputError as error:
        return values, [f"{', '.join(values)}: {error.message}"]
    stored = tuple(as_stored(frames, embedder.facts.precision) for frames in (reference, estimate))
    for one in metrics:
        kind, column = one.name.partition(":")[0], one.columns[0]
        pair = (reference, estimate) if kind == "mse32" else stored
        distance = cast(Callable[[Embedding, Embedding], float], _DISTANCES[kind])
        try:
            values[column] = distance(*pair)
        except InputError as error:
            notes.append(f"{column}: {error.message}")
            continue
        if not np.isfinite(values[column]):
            notes.append(f"{column}: the embeddings are too large for {embedder.facts.precision}")
    return values, notes


_DISTANCES = {"mse": mean_squared_error, "mse32": mean_squared_error, "fad": song_to_song}
