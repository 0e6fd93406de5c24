"""Recordings from elsewhere as files of ours: 32-bit float, read again and again without their decoder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from stemwright.core.audio.encode import OutputFormat, open_writer
from stemwright.core.audio.source import AudioSource, open_source
from stemwright.eval.datasets.sources import Named

_FLOAT_WAV = OutputFormat(container="wav", bit_depth="32f")


def spool(
    source: AudioSource,
    path: Path,
    name: str,
    *,
    gain: float = 1.0,
    watch: Callable[[], None] | None = None,
) -> Named:
    """Write a source to a file of 32-bit float, and open that.

    Parameters
    ----------
    source
        What is written.
    path
        The new file, ending in `.wav`.
    name
        What to call it in messages.
    gain
        Every sample is multiplied by it.
    watch
        Called before every block; what it raises ends the work.

    Raises
    ------
    StemwrightError
        What reading the source or writing the file raises.
    """
    info = source.info
    with open_writer(path, _FLOAT_WAV, info.sample_rate, info.channels, layout=info.layout) as writer:
        for block in source.blocks():
            if watch is not None:
                watch()
            writer.write(block if gain == 1.0 else block * np.float32(gain))
        writer.commit()
    return Named(name, open_source(path, name=name))
