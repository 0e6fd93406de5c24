"""Finds the anchors of a pack of sound events with a tagger, and keeps what the tagger says of each.

The tagger runs here and not in training: a clip's clean segment is the target and gives the condition, and
neither changes from step to step.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.resample import Resampler
from stemwright.core.errors import InputError, OptionError
from stemwright.models.query.matching import resolve, suggest
from stemwright.models.query.ontology import SoundClass, audioset
from stemwright.models.taggers.session import TaggerSession, tagger_session
from stemwright.training.data.anchors import FRAMES_PER_S, AnchorRules, mine
from stemwright.training.data.pack import ANCHORS_FILE, FULL_SCALE, mapped_audio
from stemwright.training.data.pack_index import Anchor, AnchorTable, PackIndex

_WINDOW_S = 0.975  # a patch of YAMNet
_HOP_S = 0.24
_WINDOWS_AT_ONCE = 64


def add_anchors(
    folder: Path,
    index: PackIndex,
    rules: AnchorRules,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> PackIndex:
    """Find the anchors of a pack that is being made; write their file and return the index with them.

    Parameters
    ----------
    folder
        Where the pack's samples lie.
    index
        The pack's index.
    rules
        How anchors are found.
    progress
        Called for each recording.

    Raises
    ------
    OptionError
        A label that no class of the tagger belongs to.
    InputError
        Nothing sounds in any recording.
    """
    tagger = tagger_session(rules.tagger)
    labels = dict.fromkeys(label for one in index.recordings for label in one.labels)
    columns = {label: _columns(label, rules, tagger) for label in labels}
    segment = round(rules.segment_s * index.sample_rate)
    audio = mapped_audio(folder)
    anchors: list[Anchor] = []
    rows: list[FloatArray] = []
    for number, one in enumerate(index.recordings):
        stored = audio[one.offset : one.offset + one.frames]
        samples = stored.T.astype(np.float32) * np.float32(one.gain / FULL_SCALE)
        by_frame = frame_probabilities(samples, index.sample_rate, tagger)
        for label in one.labels:
            heard = by_frame[:, columns[label]].max(axis=1)
            found = _found(heard, samples, segment, index.sample_rate, rules)
            segments = [_cut(samples, start, segment) for start, _ in found]
            rows += [
                np.concatenate([result.probabilities, result.embedding])
                for result in tagger.segments(segments, index.sample_rate)
            ] if segments else []  # fmt: skip
            anchors += [
                Anchor(recording=number, label=label, start=start, score=score) for start, score in found
            ]
        if progress is not None:
            progress(number + 1, len(index.recordings))
    if not rows:
        raise InputError(
            "no recording of the events has a label and a sound", "check the labels and the files"
        )
    np.save(folder / ANCHORS_FILE, np.stack(rows).astype(np.float32))
    table = AnchorTable(
        tagger=tagger.name,
        classes=tagger.manifest.classes,
        embedding_size=tagger.manifest.embedding_size,
        segment=segment,
        anchors=tuple(anchors),
        branches={label: _branch(label, rules, tagger) for label in labels},
    )
    return index.model_copy(update={"anchors": table})


def frame_probabilities(samples: FloatArray, sample_rate: int, tagger: TaggerSession) -> FloatArray:
    """Return the probabilities of all classes by frame of 10 ms, shape=(frames, classes).

    The tagger hears windows of 0.975 s around every 0.24 s, silence beyond the ends; between their middles
    lines are drawn.

    Parameters
    ----------
    samples
        shape=(channels, samples), at `sample_rate` Hz.
    """
    rate = tagger.sample_rate
    resampler = Resampler(sample_rate, rate, 1)
    mono = samples.mean(axis=0, keepdims=True, dtype=np.float32)
    heard = np.concatenate([resampler.push(mono), resampler.flush()], axis=1)
    window, hop = round(_WINDOW_S * rate), round(_HOP_S * rate)
    count = 1 + -(-heard.shape[1] // hop)
    half = window // 2
    padded = np.pad(heard, ((0, 0), (half, window + count * hop - heard.shape[1])))
    windows = [padded[:, place : place + window] for place in range(0, count * hop, hop)]
    values = np.stack([
        one.probabilities
        for first in range(0, count, _WINDOWS_AT_ONCE)
        for one in tagger.segments(windows[first : first + _WINDOWS_AT_ONCE], rate)
    ])  # fmt: skip
    frames = max(1, samples.shape[1] * FRAMES_PER_S // sample_rate + 1)
    places = np.arange(frames) / FRAMES_PER_S / _HOP_S
    left = np.minimum(places.astype(int), count - 2) if count > 1 else np.zeros(frames, int)
    part = np.clip(places - left, 0, 1)[:, None]
    right = np.minimum(left + 1, count - 1)
    between: FloatArray = (values[left] * (1 - part) + values[right] * part).astype(np.float32)
    return between


def class_of(label: str, rules: AnchorRules) -> SoundClass:
    """Return AudioSet's class of a label: the one that the rules name, of that name, or the nearest one.

    Raises
    ------
    OptionError
        None is near.
    """
    named = dict(rules.classes).get(label)
    if named is not None:
        return resolve(named)
    words = label.replace("_", " ")
    try:
        return resolve(words)
    except OptionError:
        near = suggest(words, 1)
        if not near:
            raise OptionError(
                f"no class of sound is known for the label {label}", f'say --class "{label}=NAME OF A CLASS"'
            ) from None
        return audioset()[near[0].mid]


def _branch(label: str, rules: AnchorRules, tagger: TaggerSession) -> tuple[int, ...]:
    """Places of the label's class and of all below it, as a query for it has them."""
    places = {mid: place for place, mid in enumerate(tagger.manifest.classes)}
    branch = audioset().descendants(class_of(label, rules).mid)
    return tuple(sorted(places[mid] for mid in branch if mid in places))


def _columns(label: str, rules: AnchorRules, tagger: TaggerSession) -> list[int]:
    """Places of the label's class among the tagger's; of the classes below it where the tagger has not it."""
    sound = class_of(label, rules)
    places = {mid: place for place, mid in enumerate(tagger.manifest.classes)}
    if sound.mid in places:
        return [places[sound.mid]]
    below = [places[mid] for mid in audioset().descendants(sound.mid) if mid in places]
    if not below:
        raise OptionError(
            f"the tagger {tagger.name} does not know {sound.name}, the class of the label {label}",
            f'say --class "{label}=NAME OF A CLASS"',
        )
    return below


def _found(
    heard: FloatArray, samples: FloatArray, segment: int, sample_rate: int, rules: AnchorRules
) -> list[tuple[int, float]]:
    """First sample and score of each anchor in which anything sounds."""
    frames = 2 * round(rules.segment_s * FRAMES_PER_S / 2)
    found = mine(heard, frames, per_clip=rules.per_clip, least_share=rules.least_share)
    placed = [(frame * sample_rate // FRAMES_PER_S, score) for frame, score in found]
    return [(start, score) for start, score in placed if np.any(_cut(samples, start, segment))]


def _cut(samples: FloatArray, start: int, segment: int) -> FloatArray:
    piece = samples[:, start : start + segment]
    return np.pad(piece, ((0, 0), (0, segment - piece.shape[1])))
