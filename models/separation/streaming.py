"""Separation of a stream: pieces of any size in, stems as soon as they are final.

For models whose graph has a state (manifest.Streaming). All pieces together give what the whole
recording gives in one go: the model's calls are cut at whole hops, whatever the pieces are.
"""

import dataclasses
import math
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.audio.channels import ChannelGroup, channel_groups
from stemwright.core.audio.resample import Resampler
from stemwright.core.errors import InputError, InternalError, OptionError
from stemwright.models.manifest import Manifest
from stemwright.models.registry.store import Installed, InstalledModel, ModelStore, open_model
from stemwright.models.separation.choosing import ModelChoice
from stemwright.models.separation.states import initial_state
from stemwright.models.sessions.opening import Session, SessionFacts, SessionOptions, open_session

_PROBE_S = 0.5


@dataclass(frozen=True, kw_only=True)
class StreamLatency:
    """Sound that has to follow a sample before its stems are given, in seconds.

    Parameters
    ----------
    model_s
        What the model needs: its own delay and a whole hop.
    resampling_s
        What the filters need where the stream has another rate than the model.
    """

    model_s: float
    resampling_s: float

    @property
    def algorithmic_s(self) -> float:
        """All that does not depend on the machine."""
        return self.model_s + self.resampling_s


class StreamSession:
    """One stream through a model with a state.

    Several may share a session, one call at a time. Not for use by several threads.

    Parameters
    ----------
    manifest
        The model's.
    session
        Its loaded graph.
    sample_rate
        Of the stream in Hz; None for the model's own.
    channels
        Of the stream; None for the model's own. They are brought to the model's as for a recording:
        a mono model hears their mean, and its stems go to all of them.
    owns_session
        Whether closing this closes the session.

    Raises
    ------
    OptionError
        The model cannot be streamed.
    """

    def __init__(
        self,
        manifest: Manifest,
        session: Session,
        *,
        sample_rate: int | None = None,
        channels: int | None = None,
        owns_session: bool = False,
    ) -> None:
        require_streamable(manifest)
        audio = manifest.audio
        self.manifest = manifest
        self.sample_rate = audio.sample_rate if sample_rate is None else sample_rate
        self.channels = audio.channels if channels is None else channels
        if self.channels < 1 or not 1000 <= self.sample_rate <= 768_000:
            raise OptionError(
                f"{self.channels} channels at {self.sample_rate} Hz cannot be streamed",
                "give at least one channel and a rate between 1000 and 768000 Hz",
            )
        self._session = session
        self._owns_session = owns_session
        groups = channel_groups(_layout(self.channels), audio.channels, audio.mode)
        self._lanes = [_Lane(manifest, session, group) for group in groups]
        stems = len(manifest.stems)
        self._down = Resampler(self.sample_rate, audio.sample_rate, self.channels)
        self._up = Resampler(audio.sample_rate, self.sample_rate, stems * self.channels)
        self._taken = 0
        self._given = 0
        self._ended = False

    @classmethod
    def open(
        cls,
        model: ModelChoice,
        *,
        sample_rate: int | None = None,
        channels: int | None = None,
        options: SessionOptions | None = None,
        store: ModelStore | None = None,
    ) -> Self:
        """Open a model for one stream.

        Parameters
        ----------
        model
            Name, path or opened model.
        sample_rate, channels
            Of the stream; None for the model's own.
        options
            Device, precision, threads. `auto` is ONNX Runtime on the CPU here: it carries float64
            statistics, and takes pieces of ever new lengths without compiling anything anew.
        store
            Where names are looked up; None for the user's store.

        Raises
        ------
        OptionError
            The model cannot be streamed: a bag, or a graph without a state.
        ModelNotFoundError, ModelFileError, DeviceError, OutOfMemoryError
            It cannot be opened.
        """
        found = model if isinstance(model, Installed) else open_model(model, store)
        if not isinstance(found, InstalledModel):
            raise not_streamable(found.name)
        require_streamable(found.manifest)
        options = SessionOptions() if options is None else options
        if options.device == "auto":
            options = dataclasses.replace(options, device="cpu")
        session = open_session(found, options)
        try:
            return cls(found.manifest, session, sample_rate=sample_rate, channels=channels, owns_session=True)
        except BaseException:
            session.close()
            raise

    @property
    def stems(self) -> tuple[str, ...]:
        """Names of the stems, in the order in which they are given."""
        return self.manifest.stems

    @property
    def facts(self) -> SessionFacts:
        """What the session uses."""
        return self._session.facts

    @property
    def latency(self) -> StreamLatency:
        """How long a sample waits for others, at most."""
        streaming, rate = self.manifest.streaming, self.manifest.audio.sample_rate
        delay = 0 if streaming is None else streaming.latency_samples
        return StreamLatency(
            model_s=(delay + self.manifest.plan.multiple) / rate,
            resampling_s=_resampling_delay(self.sample_rate, rate),
        )

    @property
    def pending(self) -> int:
        """Samples that were pushed and whose stems were not given yet."""
        return self._taken - self._given

    def push(self, samples: FloatArray) -> FloatArray:
        """Take the next piece and give the stems that are final.

        Parameters
        ----------
        samples
            float32, shape=(channels, n), n >= 0.

        Returns
        -------
        FloatArray
            float32, shape=(stems, channels, m), m >= 0; they continue what was given before.

        Raises
        ------
        ValueError
            A piece of another shape, or after the end.
        InputError
            Samples that are not finite.
        InternalError, OutOfMemoryError
            The network failed.
        """
        if samples.ndim != 2 or samples.shape[0] != self.channels:
            raise ValueError(f"a piece has shape {samples.shape}, expected ({self.channels}, n)")
        if self._ended:
            raise ValueError("the stream has ended")
        if not np.isfinite(samples).all():
            raise InputError("the stream has samples that are not finite", "check its sample format")
        self._taken += samples.shape[1]
        heard = self._down.push(np.asarray(samples, np.float32))
        return self._give(self._up.push(self._separated(heard)))

    def flush(self) -> FloatArray:
        """End the stream and give the rest, so that stems and stream are of equal length.

        Returns
        -------
        FloatArray
            float32, shape=(stems, channels, m).
        """
        if self._ended:
            return self._give(np.zeros((len(self.stems) * self.channels, 0), np.float32))
        self._ended = True
        rest = self._separated(self._down.flush(), last=True)
        if self._up.in_rate != self._up.out_rate:
            # A length that was rounded on the way to the model's rate could come back short.
            rest = np.pad(rest, ((0, 0), (0, 1)))
        parts = [self._up.push(rest), self._up.flush()]
        return self._give(np.concatenate(parts, axis=-1)[:, : self.pending])

    def close(self) -> None:
        """Free the network's memory if it was opened for this stream."""
        self._ended = True
        if self._owns_session:
            self._owns_session = False
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _separated(self, heard: FloatArray, *, last: bool = False) -> FloatArray:
        """Give final stems at the model's rate, shape=(stems * channels, m)."""
        parts = [lane.finish(heard) if last else lane.push(heard) for lane in self._lanes]
        stems = np.zeros((len(self.stems), self.channels, parts[0].shape[-1]), np.float32)
        for lane, part in zip(self._lanes, parts, strict=True):
            stems[:, list(lane.group.channels)] = part
        return stems.reshape(len(self.stems) * self.channels, stems.shape[-1])

    def _give(self, stems: FloatArray) -> FloatArray:
        self._given += stems.shape[-1]
        return stems.reshape(len(self.stems), self.channels, stems.shape[-1])


class _Lane:
    """A group of the stream's channels at the model's rate, with the state of its own network."""

    def __init__(self, manifest: Manifest, session: Session, group: ChannelGroup) -> None:
        self.group = group
        self._session = session
        self._plan = manifest.plan
        self._port, self._output = session.graph.inputs[0].name, session.graph.outputs[0].name
        streaming = manifest.streaming
        self._delay = 0 if streaming is None else streaming.latency_samples
        self._early = self._delay  # outputs that lie before the stream's first sample
        self._stems = len(manifest.stems)
        self._state = initial_state(session.graph)
        self._waiting = np.zeros((group.model_channels, 0), np.float32)

    def push(self, block: FloatArray) -> FloatArray:
        """Take samples of all channels and give the group's stems, shape=(stems, channels, m)."""
        self._waiting = np.concatenate([self._waiting, self.group.to_model(block)], axis=1)
        hop = self._plan.multiple
        whole = self._waiting.shape[1] // hop * hop
        ready, self._waiting = self._waiting[:, :whole], self._waiting[:, whole:]
        size = self._plan.input_samples
        parts = [self._call(ready[:, start : start + size]) for start in range(0, whole, size)]
        stems = (
            np.concatenate(parts, axis=-1)
            if parts
            else np.zeros((self._stems, self.group.model_channels, 0), np.float32)
        )
        return self.group.from_model(stems)

    def finish(self, block: FloatArray) -> FloatArray:
        """Take the last samples and give all that is left."""
        waiting = self._waiting.shape[1] + block.shape[1]
        due = waiting + self._delay - self._early
        stems = self.push(np.pad(block, ((0, 0), (0, self._delay + -waiting % self._plan.multiple))))
        return stems[..., :due]

    def _call(self, samples: FloatArray) -> FloatArray:
        outputs = self._session.run({self._port: samples[None], **self._state})
        stems: FloatArray = outputs[self._output][0]
        # A state that is not finite any more shows here, and is much larger than this is.
        if not np.isfinite(stems).all():
            raise InternalError(
                "the network's output is not finite any more",
                "begin the stream anew with --precision float32",
            )
        self._state = {tensor.input: outputs[tensor.output] for tensor in self._session.graph.state}
        early = min(self._early, samples.shape[1])
        self._early -= early
        return stems[:, :, early:]


def require_streamable(manifest: Manifest) -> None:
    """Raise OptionError for a model that needs to hear all of a recording, or windows of it."""
    if manifest.streaming is None or len(manifest.graph.inputs) != 1 or len(manifest.graph.outputs) != 1:
        raise not_streamable(manifest.name)


def not_streamable(name: str) -> OptionError:
    """Return the error for a model that cannot be streamed."""
    return OptionError(
        f"{name} cannot be streamed: it hears sound that is still to come",
        "use a causal model, which `stemwright models info` calls streamable, or `stemwright separate`",
    )


def _layout(channels: int) -> tuple[str, ...]:
    """Name channels: a pair is left and right, others are on their own."""
    return ("FL", "FR") if channels == 2 else tuple(f"c{index}" for index in range(channels))


def _resampling_delay(rate: int, model_rate: int) -> float:
    """Measure how far the filters there and back lag behind their input, in seconds."""
    if rate == model_rate:
        return 0.0
    down, up = Resampler(rate, model_rate, 1), Resampler(model_rate, rate, 1)
    piece = np.zeros((1, max(1, rate // 1000)), np.float32)
    taken = given = lag = 0
    for _ in range(math.ceil(_PROBE_S * rate / piece.shape[1])):
        taken += piece.shape[1]
        given += up.push(down.push(piece)).shape[1]
        lag = max(lag, taken - given)
    return lag / rate
