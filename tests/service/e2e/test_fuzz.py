"""Damaged recordings over HTTP: every job ends, none by a fault of ours, and nothing is left.

The run of thousands is benchmarks/fuzz_uploads.py, by hand.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stemwright.core.errors import UserError
from stemwright.service.client import Client, Job
from tests.service.e2e.conftest import Live
from tests.support.mutants import Mutant, healthy, mutants

pytestmark = pytest.mark.slow

COUNT = 33


def test_damaged_recordings_end_as_succeeded_or_unusable(simple: Live, tmp_path: Path) -> None:
    folder = tmp_path / "mutants"
    folder.mkdir()
    files = healthy(folder)
    with simple.client() as client, ThreadPoolExecutor(6) as pool:
        jobs = list(pool.map(lambda mutant: see_through(client, mutant, folder), mutants(files, COUNT, 7)))
    strange = [(job.name, job.status, job.error) for job in jobs if not ended_well(job)]
    assert not strange, simple.log()
    assert {job.status for job in jobs} == {"succeeded", "failed"}
    assert simple.stored("jobs") == simple.stored("uploads") == []


def see_through(client: Client, mutant: Mutant, folder: Path) -> Job:
    path = folder / mutant.name
    path.write_bytes(mutant.data)
    job = client.wait(client.submit(path).id)
    client.delete(job.id)
    return job


def ended_well(job: Job) -> bool:
    return job.status == "succeeded" or isinstance(job.error, UserError)
