"""A real server of the API on a free port, without a worker: what a worker would do is done by hand."""

import contextlib
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select, update

from stemwright.service.api.app import create_app, open_service
from stemwright.service.api.context import Service
from stemwright.service.api.server import Server, listen, url_of
from stemwright.service.jobs.schema import JOBS, UPLOADS
from stemwright.service.settings import Settings, load_settings
from stemwright.service.storage import result_key

MAX_UPLOAD = 1 << 20
BODY_TIMEOUT_S = 1.0
WAV = b"RIFF" + bytes(40) + b"not decoded by any test here" * 10


@dataclass(kw_only=True)
class Site:
    """A running server, and its inside."""

    url: str
    settings: Settings
    service: Service
    server: Server
    folder: Path

    def key(self, name: str = "somebody") -> str:
        """Make an API key."""
        return self.service.keys.create(name)[1]

    def client(self, key: str | None = None, **options: Any) -> httpx.Client:
        """Return a client with a key of its own, or the one that is given; "" for none."""
        token = self.key() if key is None else key
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, **options)

    @property
    def address(self) -> tuple[str, int]:
        parsed = httpx.URL(self.url)
        return parsed.host, parsed.port or 80

    def stored(self) -> set[str]:
        """Return the files of the storage, those in the making too."""
        root = self.folder / "data" / "storage"
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}

    def uploads(self) -> set[str]:
        with self.service.database.reading() as connection:
            return {row.id for row in connection.execute(select(UPLOADS.c.id))}

    def set_job(self, job_id: str, **values: Any) -> None:
        """Change a job's row, as its worker would."""
        with self.service.database.writing() as connection:
            connection.execute(
                update(JOBS).where(JOBS.c.id == job_id).values(**values, updated_at=time.time())
            )

    def finish(self, job_id: str, stems: Mapping[str, bytes], *, extension: str = "wav") -> None:
        """Do what a worker does with a job that succeeds."""
        views = []
        for number, (name, data) in enumerate(stems.items()):
            key = f"jobs/{job_id}/separate/run/{number}.{extension}"
            self.service.storage.write_bytes(key, data)
            views.append(
                {
                    "name": name,
                    "stems": name.split("+"),
                    "file": f"{name}.{extension}",
                    "size": len(data),
                    "etag": hashlib.sha256(data).hexdigest(),
                    "mime": f"audio/{extension}",
                    "key": key,
                }
            )
        result = {"schema": 1, "seconds": 2.0, "tool": "stemwright"}
        self.service.storage.write_bytes(result_key(job_id), json.dumps(result).encode())
        now = time.time()
        self.set_job(
            job_id,
            status="succeeded",
            fraction=1.0,
            stage="publish",
            stems=json.dumps(views),
            result=json.dumps(result),
            duration_s=2.0,
            run_s=1.0,
            finished_at=now,
            expires_at=now + 1000,
        )


@contextlib.contextmanager
def open_site(folder: Path, **settings: Any) -> Iterator[Site]:
    """Run a server in a thread."""
    chosen = {
        "data_dir": folder / "data",
        "models": folder / "models",
        "max_upload_bytes": MAX_UPLOAD,
        "body_timeout_s": BODY_TIMEOUT_S,
        "min_free_bytes": 0,
        "require_keys": True,
        "grace_s": 1.0,
        "wait_limit_s": 0.3,
        **settings,
    }
    loaded = load_settings(**chosen)
    sock = listen("127.0.0.1", 0)
    url = url_of(sock)
    with contextlib.closing(sock), open_service(loaded) as service:
        ready = threading.Event()
        server = Server(create_app(loaded, service), loaded, ready=ready.set)
        thread = threading.Thread(target=server.run, args=([sock],))
        thread.start()
        try:
            assert ready.wait(20)
            yield Site(url=url, settings=loaded, service=service, server=server, folder=folder)
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def write_manifest(models: Path, name: str, stems: list[str], **fields: Any) -> None:
    """Write as much of a model as the API reads of it, its one file with a true hash."""
    folder = models / name
    folder.mkdir(parents=True)
    graph = secrets.token_bytes(64)
    (folder / "model.onnx").write_bytes(graph)
    record = {"path": "model.onnx", "size": len(graph), "sha256": hashlib.sha256(graph).hexdigest()}
    manifest = {"name": name, "version": "1", "kind": "model", "stems": stems, "files": [record], **fields}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that a response is a problem of that status and code, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["code"] == code, body
    assert body["type"] == f"urn:stemwright:problem:{code}"
    assert body["detail"] and body["title"]
    assert body["request_id"] == response.headers["x-request-id"]
    return body
