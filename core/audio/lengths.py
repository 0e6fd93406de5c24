"""Where a recording begins and ends, to the sample, and what its file says of that."""

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.completeness import Structure
from stemwright.core.audio.media import kind_of
from stemwright.core.errors import InputError

COPY_AGAIN = "copy or download the file again, or take the part that is there with an end time"

# Containers whose clock starts at 0, so that a later first sample is a delay.
_CLOCK_FROM_ZERO = ("mov", "matroska", "avi", "flv")
# Containers whose clock starts anywhere: where there are several streams, the earliest one's
# start counts as 0. In all others the first sample is at 0.
_CLOCK_FROM_ANYWHERE = ("mpegts", "mpeg", "asf", "ogg", "nut")
# A jump of the time stamps there means that frames were lost, because they count samples.
_SAMPLE_CLOCKS = ("flac", "ogg")
# Containers whose headers tell the length, none of them by a guess from the bit rate.
_TRUE_LENGTHS = ("au", "wv", "tta", "ape", "tak", "mpc8", "dsf")
_GAP_S = 0.05
_DURATION_SLACK_S = 0.25
# Longest block of Vorbis, longer than the padding that MP3 and AAC put behind the end.
_LONGEST_PADDING = 8192

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where the samples have to end, by the file's own account.

    Parameters
    ----------
    at_least
        Fewer samples mean that a part is lost.
    at_most
        Samples behind that are the codec's padding. What is longer by more than any padding is
        not cut: the account is wrong then, as in files joined to one.
    """

    at_least: int = 0
    at_most: int | None = None


class Watch:
    """Follows the time stamps of decoded frames.

    Parameters
    ----------
    name
        What messages call the recording.
    kind
        FFmpeg's name of its container.
    told
        Whether the user has been told of a gap before: once is enough.
    """

    def __init__(self, name: str, kind: str, *, told: bool = False) -> None:
        self.told = told
        self.end_s = 0.0
        self.closed_s = 0.0
        self.junk = False
        self._name = name
        self._kind = kind
        self._started = False

    def see(self, frame: AudioFrame) -> None:
        """Take note of a frame.

        Raises
        ------
        InputError
            Frames before it were lost.
        """
        length_s = frame.samples / max(1, frame.sample_rate)
        if frame.time is None:
            self.end_s += length_s
            return
        gap_s = frame.time - self.end_s
        if self._started and gap_s > _GAP_S:
            if self._kind in _SAMPLE_CLOCKS:
                raise InputError(
                    f"{self._name} is damaged: {gap_s:.2f} s are missing at {self.end_s:.2f} s", COPY_AGAIN
                )
            self.closed_s += gap_s
            if not self.told:
                _log.warning(
                    "%s leaves out %.2f s at %.2f s; gaps are closed up", self._name, gap_s, self.end_s
                )
            self.told = True
        self._started = True
        self.end_s = frame.time + length_s


class Tail:
    """Holds back the last samples, until it is known where the recording ends."""

    def __init__(self) -> None:
        self.position = 0
        self._held: deque[FloatArray] = deque()
        self._frames = 0

    def push(self, block: FloatArray) -> Iterator[FloatArray]:
        """Take a block; give those that cannot be padding."""
        self.position += block.shape[1]
        self._held.append(block)
        self._frames += block.shape[1]
        while self._frames - self._held[0].shape[1] >= _LONGEST_PADDING:
            self._frames -= self._held[0].shape[1]
            yield self._held.popleft()

    def end(self, at: int) -> Iterator[FloatArray]:
        """Give the rest, as far as position `at`."""
        excess = self.position - at
        keep = self._frames - excess if 0 < excess <= _LONGEST_PADDING else self._frames
        for block in self._held:
            if keep > 0:
                yield block[:, :keep]
            keep -= block.shape[1]
        self._held.clear()


def declared_frames(audio: AudioStream, rate: int) -> int | None:
    """Length of a stream in samples by its header, None if it says none."""
    if not audio.duration or audio.duration < 0 or not audio.time_base:
        return None
    return round(audio.duration * audio.time_base * rate)


def limits(
    container: InputContainer, audio: AudioStream, structure: Structure, *, rate: int, first_s: float
) -> Limits:
    """Work out where a stream's samples have to end.

    Parameters
    ----------
    container, audio
        The opened file.
    structure
        What its structure promises.
    rate
        Sample rate in Hz.
    first_s
        Time stamp of the first sample in seconds.
    """
    kind = kind_of(container)
    declared = declared_frames(audio, rate)
    slack = round(_DURATION_SLACK_S * rate)
    if kind == "mov" and declared is not None:
        return Limits(
            at_least=max(0, declared - slack),
            at_most=_mp4_end(container, declared, rate, structure),
        )
    if kind == "ogg":
        end = _ogg_end(audio, structure, rate=rate, first_s=first_s)
        if end is not None:
            return Limits(at_least=max(0, end - slack), at_most=end if structure.end else None)
    if kind == "matroska" and declared is None and len(container.streams) == 1 and container.duration:
        declared = round(container.duration / av.time_base * rate)
    elif kind not in _TRUE_LENGTHS:
        declared = None
    at_least = structure.frames or max(0, (declared or 0) - slack)
    return Limits(at_least=at_least, at_most=structure.end)


def start_s(container: InputContainer, first: AudioFrame) -> float:
    """Time of the first sample on the recording's clock."""
    kind = kind_of(container)
    if first.time is None:
        return 0.0
    if kind in _CLOCK_FROM_ZERO:
        return max(0.0, first.time)
    anywhere = kind in _CLOCK_FROM_ANYWHERE and len(container.streams) > 1
    if anywhere and container.start_time is not None:
        return max(0.0, first.time - container.start_time / av.time_base)
    return 0.0


def packet_samples(duration: int | None, time_base: Fraction | None, frame: AudioFrame) -> int:
    """Count the samples of a frame that are meant to be heard by its packet's duration."""
    if not duration or not time_base:
        return frame.samples
    return min(frame.samples, round(duration * time_base * frame.sample_rate))


def _mp4_end(container: InputContainer, declared: int, rate: int, structure: Structure) -> int | None:
    """Length of an MP4's presentation where the file tells it to the sample, else None.

    Edit lists count in the movie's time scale, mostly milliseconds, which do not name a sample.
    iTunes notes delay, padding and length in hexadecimal digits.
    """
    note = container.metadata.get("iTunSMPB", "").split()
    if len(note) >= 4:
        try:
            length = int(note[3], 16)
        except ValueError:
            length = 0
        if abs(length - declared) <= _LONGEST_PADDING:
            return length
    scale = structure.movie_timescale
    return declared if scale and scale % rate == 0 else None


def _ogg_end(audio: AudioStream, structure: Structure, *, rate: int, first_s: float) -> int | None:
    """Length of an Ogg stream by its last granule position; streams cut from a longer one start late."""
    # FFmpeg misplaces the start of a file of one page by up to a block
    start = round(first_s * rate)
    start = start if start > _LONGEST_PADDING else 0
    if structure.end is not None:
        return structure.end - start
    declared = declared_frames(audio, rate)
    return None if declared is None else declared - start
