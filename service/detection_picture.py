"""A picture of which sounds are in a recording, and when."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stemwright.core.figures import PictureFormat, figure_bytes, picture_format, plain
from stemwright.models.query.detection import ClassActivity, Detection
from stemwright.service.staging import publish_file

_WIDTH_INCH, _ROW_INCH, _MARGINS_INCH = 10.0, 0.32, 1.3
# Columns of the picture at most: an hour has 1800 windows, each column shows the largest of its share.
_MOST_COLUMNS = 2000


def draw_detection(detection: Detection, shown: Sequence[ClassActivity], path: Path, *, title: str) -> None:
    """Draw classes over time into a file, which appears only when it is complete.

    Raises
    ------
    OutputError
        Another format than PNG or SVG, or the file cannot be written.
    """
    publish_file(path, detection_picture(detection, shown, picture_format(path), title=title), replace=True)


def detection_picture(
    detection: Detection, shown: Sequence[ClassActivity], fmt: PictureFormat, *, title: str
) -> bytes:
    """Return the bytes of a picture: a row a class, time to the right, probability as darkness."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [_columns(one) for one in shown] or [np.zeros(1, np.float32)]
    labels = [one.sound.name for one in shown] or ["nothing"]
    figure = Figure(figsize=(_WIDTH_INCH, _MARGINS_INCH + _ROW_INCH * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(
        np.stack(rows),
        aspect="auto",
        interpolation="nearest",
        cmap="Greys",
        vmin=0.0,
        vmax=1.0,
        extent=(0.0, len(detection.values) * detection.window_s, len(rows), 0.0),
    )
    axes.set_yticks(np.arange(len(rows)) + 0.5, labels)
    axes.set_xlim(0.0, detection.duration_s)
    axes.set_xlabel("seconds")
    axes.set_title(plain(title))
    figure.colorbar(image, ax=axes, label="probability")
    return figure_bytes(figure, fmt)


def _columns(one: ClassActivity) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    values = one.probabilities
    share = -(-len(values) // _MOST_COLUMNS)
    padded = np.pad(values, (0, -len(values) % share))
    return np.asarray(padded.reshape(-1, share).max(axis=1), np.float32)
