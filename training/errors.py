"""Errors of training, below those of core/errors.py."""

from stemwright.core.errors import StemwrightError


class DivergedError(StemwrightError):
    """The loss is no longer a number."""

    code = "training_diverged"
