"""Our metrics beside the tools that the tests install, on a few random cases of each.

`benchmarks/metric_agreement.py` does the same with many, and with museval, torchmetrics and auraloss.
"""

import pytest

from tests.eval.agreement import COMPARISONS, Comparison, compare

HERE = ("mir_eval", "fast_bss_eval", "librosa", "pystoi", "pesq")
TOLERANCES = {"fast_bss_eval": 1e-6, "librosa": 1e-5}
"""fast_bss_eval adds a constant to ratios, librosa's filters are float32; all else is equal to rounding."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "comparison",
    [one for one in COMPARISONS if one.tool in HERE],
    ids=lambda one: f"{one.metric}-{one.tool}",
)
def test_equal(comparison: Comparison) -> None:
    for one in compare(comparison, 3, seed=7):
        assert one.values > 0, one
        assert one.largest <= TOLERANCES.get(comparison.tool, 1e-8), one
