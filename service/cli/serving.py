"""The work of `stemwright serve`."""

import contextlib
import logging
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import typer

from stemwright.core.errors import EXIT_FAILURE, EXIT_OK, OptionError
from stemwright.service.api.app import create_app, open_service
from stemwright.service.api.server import Server, listen, url_of
from stemwright.service.jobs.supervisor import Supervisor
from stemwright.service.keys import KeyStore
from stemwright.service.logs import configure_logs
from stemwright.service.settings import Settings, load_settings, show_settings

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked of `serve`; None for what the settings say."""

    host: str | None
    port: int | None
    worker: bool
    ui: bool | None
    model: str | None
    device: str | None
    config: Path | None
    print_config: bool


def serve_until_signal(request: Request) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code.

    Raises
    ------
    StemwrightError
        Settings, address, database or storage do not allow it.
    """
    settings = load_settings(
        request.config,
        host=request.host,
        port=request.port,
        ui=request.ui,
        default_model=request.model,
        device=request.device,
    )
    if request.print_config:
        typer.echo(show_settings(settings), nl=False)
        return EXIT_OK
    configure_logs(settings.log_level, settings.log_format)
    with contextlib.closing(listen(settings.host, settings.port)) as sock, open_service(settings) as service:
        _require_a_key(settings, service.keys)
        supervisor = Supervisor(settings) if request.worker else None
        server = Server(
            create_app(settings, service),
            settings,
            ready=lambda: _tell(url_of(sock)),
            ending=_ending(supervisor),
        )
        with supervisor or contextlib.nullcontext():
            # The server passes on the signal that ended it, once all is done: that is no failure.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                server.run(sockets=[sock])
    return EXIT_OK if server.started else EXIT_FAILURE


def _require_a_key(settings: Settings, keys: KeyStore) -> None:
    """Refuse to open the service to others while nothing would keep them out, or let anybody in."""
    if settings.keys_required and not keys.any_valid():
        raise OptionError(
            f"{settings.host} is open to others, and there is no API key",
            "run `stemwright keys create NAME` first, or listen on 127.0.0.1",
        )


def _tell(url: str) -> None:
    _LOG.info("listening on %s", url)
    if sys.stdout.isatty():
        typer.echo(f"stemwright is at {url}; Ctrl-C ends it")


def _ending(supervisor: Supervisor | None) -> "threading.Thread | None":
    """Return a thread that ends the workers while the server still finishes its answers."""
    return threading.Thread(target=supervisor.stop, daemon=True) if supervisor is not None else None
