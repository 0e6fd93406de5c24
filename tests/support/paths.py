"""Places of data that tests may read when they are there."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
_SHARED = ROOT.parent / "shared"


def shared(*parts: str) -> Path:
    """Path below the shared data folder beside the checkout; skips the test where it is absent."""
    path = _SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs the shared data folder beside the checkout: {'/'.join(parts)} is absent")
    return path
