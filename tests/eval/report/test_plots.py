"""Plots of runs."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from stemwright.core.errors import InputError
from stemwright.core.figures import PictureFormat, figure_bytes
from stemwright.eval.report.plots import box_plot, frame_plot, spectrogram_plot
from tests.eval.report.runs import make_run

RNG = np.random.default_rng(1)
RUNS = [
    make_run("a $x$ <b>", {"vocals": RNG.normal(5, 1, (9, 4)), "drums": RNG.normal(6, 1, (9, 4))}),
    make_run("b", {"vocals": RNG.normal(7, 1, (9, 4))}),
]


def texts(svg: bytes) -> str:
    return " ".join(ET.fromstring(svg).itertext())


def test_boxes_stand_at_the_quartiles_of_the_tracks() -> None:
    figure = box_plot(RUNS, "SDR")
    (axes,) = figure.axes
    medians = np.sort([row.stems["vocals"].values["SDR"] for row in RUNS[0].tracks])
    box = np.asarray(axes.patches[0].get_path().vertices)[:, 1]
    assert (box.min(), box.max()) == pytest.approx(tuple(np.percentile(medians, [25, 75])))
    assert "<b>" in texts(figure_bytes(figure, "svg"))


def test_the_same_figure_has_the_same_bytes() -> None:
    forms: tuple[PictureFormat, ...] = ("png", "svg")
    for form in forms:
        assert figure_bytes(box_plot(RUNS, "SDR"), form) == figure_bytes(box_plot(RUNS, "SDR"), form)


def test_frames_stand_in_the_middle_of_their_windows() -> None:
    (axes,) = frame_plot(RUNS, "track 2", "vocals", "SDR").axes
    assert np.asarray(axes.lines[1].get_xdata()).tolist() == [0.5, 1.5, 2.5, 3.5]
    assert np.asarray(axes.lines[1].get_ydata()).tolist() == list(
        RUNS[1].tracks[2].stems["vocals"].frames["SDR"]
    )
    with pytest.raises(InputError, match="no run has frames"):
        frame_plot(RUNS, "track 2", "bass", "SDR")


def test_a_tone_stands_at_its_pitch() -> None:
    tone = np.sin(2 * np.pi * 3000 * np.arange(44100) / 44100).astype(np.float32)[None]
    figure = spectrogram_plot({"reference": tone, "estimate": 0.5 * tone}, 44100)
    first, second = (axes.images[0] for axes in figure.axes)
    level = np.asarray(first.get_array())
    row = int(level[:, level.shape[1] // 2].argmax())
    assert row * 22.05 / (len(level) - 1) == pytest.approx(3, abs=0.03)
    assert np.asarray(second.get_array()).max() == pytest.approx(-6.02, abs=0.01)
