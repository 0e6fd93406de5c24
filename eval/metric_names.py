"""Names of metrics for those who must not load what computes them: stemwright.eval.metrics has the rest."""

import difflib
from collections.abc import Iterable

from stemwright.core.errors import OptionError

METRIC_NAMES = (
    "bsseval", "bsseval-exact", "bsseval-sources", "nsdr", "sdr", "sdri", "si-sdr", "si-sdr-zero-mean",
    "si-sdri", "mrstft", "logmel", "pesq", "pesq-nb", "stoi", "estoi", "dnsmos",
)  # fmt: skip
WITH_EMBEDDER = ("mse", "mse32", "fad")
"""Metrics of the form `NAME:EMBEDDER`."""


def check_metric_names(names: Iterable[str]) -> None:
    """Refuse names that no metric has; of embedders only the form is looked at.

    Raises
    ------
    OptionError
        An unknown name; the nearest are told.
    """
    for name in names:
        kind, _, embedder = name.partition(":")
        if name in METRIC_NAMES or (kind in WITH_EMBEDDER and embedder):
            continue
        near = difflib.get_close_matches(name, METRIC_NAMES, n=3, cutoff=0.4)
        known = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(METRIC_NAMES)}"
        raise OptionError(f"there is no metric {name}", known)
