"""The API against its own description: every operation with generated requests, all checks.

A few requests for each here; thousands by hand: `schemathesis run URL/openapi.json --max-examples 100`.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import insert

from stemwright.service.jobs.schema import WORKERS
from tests.service.api.site import open_site, write_manifest

_CONFIG = Path(__file__).with_name("schemathesis.toml")
_SEED = "20250101"


@pytest.mark.slow
def test_generated_requests_find_no_fault(tmp_path: Path) -> None:
    write_manifest(tmp_path / "models", "htdemucs", ["drums", "bass", "other", "vocals"])
    with open_site(tmp_path, require_keys=None, max_queued_per_key=100_000, wait_limit_s=0.01) as site:
        worker = {"executor_id": "w", "queue": "default", "device": "cpu", "models": "[]"}
        with site.service.database.writing() as connection:  # alive for as long as this takes
            connection.execute(insert(WORKERS).values(**worker, seen=time.time() + 10_000))
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(_CONFIG)),
                *("run", f"{site.url}/openapi.json", "--max-examples", "2", "--seed", _SEED),
                *("--generation-database", "none", "--request-timeout", "20"),
            ],
            cwd=tmp_path,
            env={**os.environ, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=240,
        )
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    assert " passed" in ended.stdout
