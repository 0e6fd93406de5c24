"""A picture of which sounds are in a recording, and when."""

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from stemwright.core.errors import OutputError, output_error
from stemwright.models.query.detection import ClassActivity, Detection

PictureFormat = Literal["png", "svg"]
_WIDTH_INCH, _ROW_INCH, _MARGINS_INCH = 10.0, 0.32, 1.3
# Columns of the picture at most: an hour has 1800 windows, each column shows the largest of its share.
_MOST_COLUMNS = 2000


def picture_format(path: Path) -> PictureFormat:
    """Return the format that a file's name asks for; raises OutputError for any but .png and .svg."""
    suffix = path.suffix.lower()
    if suffix == ".png":
        return "png"
    if suffix == ".svg":
        return "svg"
    raise OutputError(f"{path} is no picture's name", "end it in .png or .svg")


def draw_detection(detection: Detection, shown: Sequence[ClassActivity], path: Path, *, title: str) -> None:
    """Draw classes over time into a file, which appears only when it is complete.

    Raises
    ------
    OutputError
        Another format than PNG or SVG, or the file cannot be written.
    """
    data = detection_picture(detection, shown, picture_format(path), title=title)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".stemwright-", delete=False) as file:
            aside = Path(file.name)
            try:
                file.write(data)
                file.close()
                aside.chmod(0o644)
                aside.replace(path)
            except BaseException:
                aside.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise output_error(path, error) from error


def detection_picture(
    detection: Detection, shown: Sequence[ClassActivity], fmt: PictureFormat, *, title: str
) -> bytes:
    """Return the bytes of a picture: a row a class, time to the right, probability as darkness."""
    # matplotlib takes half a second to import; the figure is made without pyplot, which keeps state.
    import matplotlib as mpl
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
    axes.set_title(title.replace("$", r"\$"))
    figure.colorbar(image, ax=axes, label="probability")
    out = io.BytesIO()
    # Without a date and with a fixed salt the same detection gives the same bytes.
    with mpl.rc_context({"svg.hashsalt": "stemwright"}):
        figure.savefig(out, format=fmt, dpi=120, metadata={"Date": None} if fmt == "svg" else None)
    return out.getvalue()


def _columns(one: ClassActivity) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    values = one.probabilities
    share = -(-len(values) // _MOST_COLUMNS)
    padded = np.pad(values, (0, -len(values) % share))
    return np.asarray(padded.reshape(-1, share).max(axis=1), np.float32)
