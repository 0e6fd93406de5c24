"""Rules of the whole suite."""

import signal
from collections.abc import Generator

import pytest

from tests.support.needs import CI_VARIABLE, HARDWARE, in_ci


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes that tests start, also where a shell in the background withholds it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where everything that can be installed is."""
    report = yield
    if in_ci() and report.skipped and not hasattr(report, "wasxfail"):
        _fail(report, str(call.excinfo.value) if call.excinfo else "")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same for a whole module that is skipped."""
    report = yield
    if in_ci() and report.skipped:
        _fail(report, report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr))
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport, reason: str) -> None:
    if not reason.removeprefix("Skipped: ").startswith(HARDWARE):
        report.outcome = "failed"
        report.longrepr = f"skipped although {CI_VARIABLE} is set: {reason}"
