"""Anchors: where in a weakly labelled clip a class sounds most.

References
----------
Q. Kong et al., "Universal Source Separation with Weakly Labelled Data", arXiv 2305.07447, and the code
bytedance/uss: 100 frames a second, a moving average over the segment, the first maximum, kept inside the
clip.
"""

from dataclasses import dataclass

import numpy as np

from stemwright.core.arrays import FloatArray

FRAMES_PER_S = 100
SEGMENT_S = 2.0


@dataclass(frozen=True, kw_only=True)
class AnchorRules:
    """How segments of sound events are found and what is asked of the tagger.

    Parameters
    ----------
    tagger
        Name of an installed tagger, or its folder.
    segment_s
        Length of a segment.
    per_clip
        Largest number of anchors a clip and class; the paper takes 1. Each further one is the next best that
        overlaps no other by more than half.
    least_share
        A further anchor needs this share of the first one's probability.
    classes
        AudioSet's class of a label, where the label alone does not name one: pairs of label and class.
    """

    tagger: str = "yamnet"
    segment_s: float = SEGMENT_S
    per_clip: int = 1
    least_share: float = 0.5
    classes: tuple[tuple[str, str], ...] = ()


def smoothed(probabilities: FloatArray, width: int) -> FloatArray:
    """Average over `width` (odd) frames around each, the ends repeated beyond the ends.

    Parameters
    ----------
    probabilities
        shape=(frames,).
    """
    half = width // 2
    padded = np.pad(np.asarray(probabilities, np.float64), half, mode="edge")
    sums = np.cumsum(np.concatenate([[0.0], padded]))
    averaged: FloatArray = ((sums[width:] - sums[:-width]) / width).astype(np.float32)
    return averaged


def mine(
    probabilities: FloatArray, segment: int, *, per_clip: int = 1, least_share: float = 0.5
) -> tuple[tuple[int, float], ...]:
    """Find the segments in which a class is most probable.

    Parameters
    ----------
    probabilities
        Of the class, by frame, shape=(frames,).
    segment
        Length of a segment in frames, even.
    per_clip, least_share
        As in `AnchorRules`.

    Returns
    -------
    tuple
        Of each anchor its first frame, and the average probability at its middle; the best first. A clip
        shorter than a segment has one anchor, at 0.
    """
    half = segment // 2
    score = smoothed(probabilities, segment + 1)
    last = len(score) - 1 - half
    if last <= half:
        return ((0, float(score.max())),)
    best = int(np.argmax(score))
    middle = min(max(best, half), last)
    found = [(middle - half, float(score[best]))]
    inside = score[half : last + 1].copy()
    while len(found) < per_clip:
        inside[max(0, middle - segment + 1) : middle] = -np.inf  # middles less than half a segment away
        best = int(np.argmax(inside))
        if inside[best] < least_share * found[0][1]:
            break
        middle = best + half
        found.append((best, float(inside[best])))
    return tuple(found)
