"""A page of examples to listen to and look at, in one file: what training hears."""

import base64
import html
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InputError, OutputError
from stemwright.training.data.events import EventPairs
from stemwright.training.data.examples import Example, Source
from stemwright.training.data.pack import Pack
from stemwright.training.data.songs import SongRules, Songs
from stemwright.training.data.speech import SpeechMixtures, SpeechRules

_MP3_RATES = frozenset((8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000))
_COLUMNS, _ROWS = 320, 128
_RANGE_DB = 80.0

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; }
h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; width: 20rem; max-width: 100%; }
figure img { width: 100%; height: 8rem; display: block; image-rendering: auto; background: #000; }
figure audio { width: 100%; height: 2.2rem; }
figcaption { font-size: .85rem; }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #e8e8e8; } }
"""


def source_of(pack: Pack, *, seconds: float = 4.0) -> Source:
    """Return the usual source of a pack: two voices, songs with their stems, or pairs of events.

    Raises
    ------
    InputError
        A pack that makes none.
    """
    if pack.index.kind == "speech":
        return SpeechMixtures(pack, SpeechRules(seconds=seconds))
    if pack.index.kind == "stems":
        return Songs(pack, SongRules(seconds=seconds))
    return EventPairs(pack)


def write_preview(source: Source, path: Path, *, title: str, count: int = 6, seed: int = 0) -> None:
    """Write a page of the first examples of a run.

    Parameters
    ----------
    source
        What draws them.
    path
        The page; it needs no other file.
    title
        What the examples are of.
    count, seed
        How many, and the run's seed.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    text = "".join(_page(source, title, count, seed))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}", "choose another place with -o") from error


def _page(source: Source, title: str, count: int, seed: int) -> Iterator[str]:
    name = html.escape(title)
    yield f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
    yield f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
    yield f"<h1>{name}</h1><p>{count} examples of step 0 with the seed {seed}, at {source.sample_rate} Hz. "
    yield f"Spectrograms reach {_RANGE_DB:g} dB below the loudest of their row.</p>"
    for index in range(count):
        example = source.example(seed, 0, index)
        yield f"<h2>Example {index + 1}</h2>" + _row(example, source)
    yield "</body></html>\n"


def _row(example: Example, source: Source) -> str:
    named = [("mixture", example.mixture), *zip(source.names, example.targets, strict=True)]
    pictures = [_levels(samples) for _, samples in named]
    top = max(float(levels.max()) for levels in pictures)
    figures = "".join(
        _figure(name, samples, levels - top, source.sample_rate)
        for (name, samples), levels in zip(named, pictures, strict=True)
    )
    return f'<div class="row">{figures}</div>'


def _figure(name: str, samples: FloatArray, levels_db: FloatArray, rate: int) -> str:
    level = 20 * np.log10(max(1e-5, float(np.sqrt(np.square(samples, dtype=np.float64).mean()))))
    kind, audio = _encoded(samples, rate)
    picture = f"data:image/png;base64,{_png(levels_db)}"
    return (
        f'<figure><img alt="spectrogram of {html.escape(name)}" src="{picture}">'
        f'<audio controls preload="none" src="data:{kind};base64,{audio}"></audio>'
        f"<figcaption>{html.escape(name)}, {level:.1f} dB</figcaption></figure>"
    )


def _levels(samples: FloatArray) -> FloatArray:
    """Spectrogram in dB, shape=(rows, columns), low frequencies at the bottom."""
    mono = samples.mean(axis=0)
    size = 512 if len(mono) < 100_000 else 2048
    hop = max(1, (len(mono) - size) // _COLUMNS)
    starts = np.arange(0, max(1, len(mono) - size + 1), hop)
    padded = np.pad(mono, (0, size))
    frames = np.stack([padded[start : start + size] for start in starts]) * np.hanning(size)
    power = np.square(np.abs(np.fft.rfft(frames, axis=1)))[:, :-1]
    rows = power.reshape(len(starts), _ROWS, -1).mean(axis=2)
    levels: FloatArray = (10 * np.log10(np.maximum(rows.T[::-1], 1e-10))).astype(np.float32)
    return levels


def _png(levels_db: FloatArray) -> str:
    from matplotlib import image

    file = io.BytesIO()
    image.imsave(file, levels_db, vmin=-_RANGE_DB, vmax=0, cmap="magma", format="png")
    return base64.b64encode(file.getvalue()).decode("ascii")


def _encoded(samples: FloatArray, rate: int) -> tuple[str, str]:
    """Media type and samples as base64: MP3 where it has the rate."""
    import soundfile

    kind, form = ("audio/mpeg", "MP3") if rate in _MP3_RATES else ("audio/flac", "FLAC")
    if samples.shape[0] > 2:
        raise InputError(
            "examples of more than two channels cannot be listened to", "pack with fewer channels"
        )
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1, 1).T, rate, format=form)
    return kind, base64.b64encode(file.getvalue()).decode("ascii")
