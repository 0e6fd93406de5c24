"""Results on standard output: paths and JSON, whatever bytes a name is made of."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def print_path(path: Path) -> None:
    """Print a path on a line of its own, byte for byte."""
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(path) + b"\n")
    sys.stdout.buffer.flush()


def print_json_line(data: Mapping[str, Any]) -> None:
    """Print data as one line of JSON."""
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()
