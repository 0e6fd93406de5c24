"""Figures of matplotlib as bytes.

matplotlib takes half a second to import and is loaded when a figure is saved. It is used without pyplot,
which keeps state between figures.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stemwright.core.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PictureFormat = Literal["png", "svg"]
_DPI = 120


def picture_format(path: Path) -> PictureFormat:
    """Return the format that a file's name asks for.

    Raises
    ------
    OutputError
        It ends in neither .png nor .svg.
    """
    suffix = path.suffix.lower()
    if suffix == ".png":
        return "png"
    if suffix == ".svg":
        return "svg"
    raise OutputError(f"{path} is no picture's name", "end it in .png or .svg")


def figure_bytes(figure: "Figure", form: PictureFormat) -> bytes:
    """Return a figure as PNG or SVG; the same figure gives the same bytes."""
    import matplotlib as mpl

    data = io.BytesIO()
    # Without a date and with a fixed salt; text of an SVG stays text.
    with mpl.rc_context({"svg.hashsalt": "stemwright", "svg.fonttype": "none"}):
        figure.savefig(data, format=form, dpi=_DPI, metadata={"Date": None} if form == "svg" else None)
    return data.getvalue()


def plain(text: str) -> str:
    """Return text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")
