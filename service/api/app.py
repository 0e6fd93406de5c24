"""The application: what is opened when it starts, what surrounds a request, which routes there are."""

import contextlib
import importlib.metadata
import importlib.util
import logging
import os
from collections.abc import AsyncIterator, Iterator

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.cors import CORSMiddleware

from stemwright.service.api.catalogue import ModelCatalogue
from stemwright.service.api.context import CSRF_HEADER, Service
from stemwright.service.api.describing import install_openapi
from stemwright.service.api.metrics import Metrics
from stemwright.service.api.middleware import RequestMiddleware, SiteMiddleware, default_hosts
from stemwright.service.api.problems import install_handlers
from stemwright.service.api.routes import (
    catalogue,
    detect,
    evaluations,
    events,
    jobs,
    operation,
    results,
    separate,
    sessions,
    stream,
    uploads,
)
from stemwright.service.api.side import SideProcess
from stemwright.service.api.uploads import Uploads
from stemwright.service.jobs.board import JobBoard
from stemwright.service.keys import KeyStore
from stemwright.service.settings import Settings

_LOG = logging.getLogger(__name__)
DESCRIPTION = """\
Recordings go in, stems come out. `POST /v1/jobs` with a file, follow `/v1/jobs/{id}/events`, get
`/v1/jobs/{id}/stems/vocals`. Every error is a problem document (RFC 9457) with a stable `code`.
"""
_MODULES = (
    jobs,
    separate,
    detect,
    evaluations,
    uploads,
    events,
    results,
    catalogue,
    sessions,
    stream,
    operation,
)
_EXPOSED = (
    "Location", "ETag", "Content-Range", "Content-Disposition", "Retry-After", "Upload-Offset",
    "Idempotent-Replayed", "X-Request-ID", "Preference-Applied",
)  # fmt: skip


def create_app(settings: Settings, service: Service | None = None) -> FastAPI:
    """Build the application.

    Parameters
    ----------
    settings
        All of them.
    service
        What is open already; None to open it when the application starts, and close it when it ends.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        given = contextlib.nullcontext(service) if service is not None else open_service(settings)
        with given as opened:
            app.state.service = opened
            yield
            opened.closing.set()

    app = FastAPI(
        title="stemwright",
        summary="Audio source separation",
        description=DESCRIPTION,
        version=importlib.metadata.version("stemwright"),
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        telemetry=_telemetry(),
    )
    for module in _MODULES:
        app.include_router(module.router)
    install_handlers(app)
    install_openapi(app, settings)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "PATCH", "DELETE"],
            allow_headers=[
                "Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer",
                "Range", "If-Range", "If-None-Match", "Upload-Offset", CSRF_HEADER,
            ],
            expose_headers=_EXPOSED,
        )  # fmt: skip
    hosts = settings.allowed_hosts
    if not hosts and not settings.listens_beyond_loopback:
        hosts = default_hosts(settings.host)
    app.add_middleware(SiteMiddleware, hosts=hosts, origins=settings.cors_origins)
    app.add_middleware(RequestMiddleware, most=settings.max_connections)
    return app


def _telemetry() -> TelemetryConfig:
    """Trace requests where OpenTelemetry's SDK is installed and told where to send the spans."""
    wanted = any(name.startswith("OTEL_EXPORTER_OTLP") for name in os.environ)
    there = wanted and importlib.util.find_spec("opentelemetry.sdk") is not None
    if wanted and not there:
        _LOG.warning("OTEL_EXPORTER_OTLP... is set, but opentelemetry-sdk is not installed: no traces")
    return TelemetryConfig(
        tracing=there, metrics=False, logs=False, operation_spans=False, auto_configure=there
    )


@contextlib.contextmanager
def open_service(settings: Settings) -> Iterator[Service]:
    """Open what the routes share, and close it at the end.

    Raises
    ------
    BusyError
        Database or storage cannot be reached.
    """
    with JobBoard.open(settings) as board, contextlib.closing(SideProcess(settings)) as side:
        yield Service(
            settings=settings,
            database=board.database,
            board=board,
            storage=board.storage,
            keys=KeyStore(board.database),
            uploads=Uploads(board.database, board.storage, settings),
            catalogue=ModelCatalogue(settings.models_dir, settings.default_model),
            metrics=Metrics(board.database, importlib.metadata.version("stemwright")),
            side=side,
        )
