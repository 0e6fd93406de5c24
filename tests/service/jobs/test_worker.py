"""A job through a worker's process, from the board to the stems."""

import pytest

from stemwright.service.jobs.model import JobStatus
from tests.service.jobs.service import Service

pytestmark = pytest.mark.slow


def test_job_succeeds(service: Service) -> None:
    job = service.submit("slow-20", chunks=5)
    service.worker("--once").wait()
    view = service.job(job)
    assert view.status == JobStatus.succeeded, service.logs()
    assert [stem.name for stem in view.stems] == ["vocals", "other"]
