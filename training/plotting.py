"""The curves of a run as a picture."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stemwright.core.errors import InputError, OptionError, output_error
from stemwright.training.run_folder import RunFolder

PICTURE = "curves.png"
_SUFFIXES = (".pdf", ".png", ".svg")
_Curve = tuple[list[int], list[float]]


def plot_run(run: Path, out: Path | None = None) -> Path:
    """Draw losses, scores and the learning rate over the steps.

    Parameters
    ----------
    run
        Folder of the run.
    out
        The picture; None for `curves.png` in the run.

    Returns
    -------
    Path
        The picture.

    Raises
    ------
    InputError
        The run has logged nothing yet.
    OptionError
        A picture of an unknown kind.
    OutputError, ResourceError
        It cannot be written.
    """
    out = out or run / PICTURE
    if out.suffix not in _SUFFIXES:
        raise OptionError(f"{out} is of no known kind of picture", f"name it {' or '.join(_SUFFIXES)}")
    rows = RunFolder(run).rows()
    if not rows:
        raise InputError(f"the run in {run} has logged nothing", "train some steps first")
    figure = _draw(rows, run.name)
    try:
        figure.savefig(out)
    except OSError as error:
        raise output_error(out, error) from error
    return out


def curves(rows: Sequence[Mapping[str, Any]], kind: str) -> dict[str, _Curve]:
    """Return the steps and values of everything that rows of a kind hold."""
    found: dict[str, _Curve] = defaultdict(lambda: ([], []))
    for row in rows:
        if row.get("kind") != kind:
            continue
        for name, value in row.items():
            if name not in ("step", "kind", "time") and isinstance(value, int | float):
                found[name][0].append(row["step"])
                found[name][1].append(float(value))
    return dict(found)


def _draw(rows: Sequence[Mapping[str, Any]], title: str) -> Any:
    from matplotlib.figure import Figure

    trained, network, engine = (curves(rows, kind) for kind in ("train", "network", "engine"))
    figure = Figure(figsize=(8, 9), layout="constrained")
    losses, scores, rates = figure.subplots(3, sharex=True)
    losses.set(title=title, ylabel="loss")
    for label, found in (("training", trained), ("held out", network)):
        if "loss" in found:
            losses.plot(*found["loss"], label=label)
    scores.set(ylabel="score (dB)")
    for label, found in (("network", network), ("engine", engine)):
        for name, curve in found.items():
            if name not in ("loss", "score"):
                scores.plot(*curve, "o-" if label == "engine" else "-", label=f"{name}, {label}")
    rates.set(ylabel="learning rate", xlabel="step")
    if "lr" in trained:
        rates.plot(*trained["lr"])
    for axes in (losses, scores):
        if axes.has_data():
            axes.legend(fontsize="small")
    return figure
