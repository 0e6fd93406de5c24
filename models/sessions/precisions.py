"""Which precision a session computes in."""

from stemwright.core.errors import DeviceError
from stemwright.models.manifest import Manifest, Precision
from stemwright.models.sessions.runtimes.contract import PrecisionChoice, Provider

_FASTEST_FIRST: tuple[Precision, ...] = ("bfloat16", "int8", "float16")


def choose_precision(
    manifest: Manifest, provider: Provider, choice: PrecisionChoice, possible: frozenset[Precision]
) -> tuple[Precision, str]:
    """Settle the precision and say why.

    Parameters
    ----------
    manifest
        Records which lower precisions were measured to be safe for this model.
    provider
        Where the graph will run.
    choice
        What was asked for.
    possible
        What the provider can do on this machine.

    Raises
    ------
    DeviceError
        The precision asked for is not possible here.
    """
    if choice != "auto":
        if choice not in possible:
            raise DeviceError(
                f"{choice} is not possible on {provider} here", f"use one of {', '.join(sorted(possible))}"
            )
        return choice, f"{choice} asked for"
    safe = {
        record.precision: record.sdr_loss_db
        for record in manifest.safe_precisions
        if record.provider == provider
    }
    for precision in _FASTEST_FIRST:
        if precision in safe and precision in possible:
            return precision, f"{precision} measured to cost {safe[precision]:.2f} dB of SDR"
    return "float32", "no lower precision is both measured to be safe and possible here"
