"""`stemwright keys`: API keys of the service."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stemwright.core.errors import EXIT_OK

if TYPE_CHECKING:
    from stemwright.service.keys import Key, KeyStore

app = typer.Typer(help="Create, list and revoke API keys of the service.", no_args_is_help=True)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="TOML file of the service's settings.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Make a key, and print it: it is stored as a hash, and never shown again.

    A caller sends it as `Authorization: Bearer KEY`. Each key sees its own jobs only.
    """
    from stemwright.service.cli.output import print_json_line

    with _store(config) as keys:
        key, token = keys.create(name)
    if as_json:
        print_json_line({"id": key.id, "name": key.name, "key": token})
    else:
        typer.echo(token)
        typer.echo(f"key {key.id} of {key.name}; keep it, it is not shown again", err=True)
    return EXIT_OK


@app.command("list")
def list_keys(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """List the keys, revoked ones too, without their secrets."""
    from stemwright.service.cli.output import print_json_line

    with _store(config) as keys:
        found = keys.list()
    for key in found:
        if as_json:
            print_json_line(_facts(key))
        else:
            state = "revoked" if key.revoked_at else "valid"
            used = _day(key.used_at) if key.used_at else "never"
            typer.echo(f"{key.id}  {state:7}  created {_day(key.created_at)}  used {used:10}  {key.name}")
    return EXIT_OK


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Id of the key, or its name.")],
    config: ConfigOption = None,
) -> int:
    """Revoke a key: from now on it opens nothing, and sessions that it began end."""
    with _store(config) as keys:
        revoked = keys.revoke(key)
    typer.echo(f"revoked {revoked.id} of {revoked.name}")
    return EXIT_OK


@contextlib.contextmanager
def _store(config: Path | None) -> "Iterator[KeyStore]":
    """Open the keys in the service's database, which is made if it is not there yet."""
    from stemwright.service.jobs.database import Database
    from stemwright.service.jobs.schema import migrate
    from stemwright.service.keys import KeyStore
    from stemwright.service.settings import load_settings

    settings = load_settings(config)
    migrate(settings.database)
    database = Database.open(settings.database)
    try:
        yield KeyStore(database)
    finally:
        database.close()


def _facts(key: "Key") -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "created": key.created_at,
        "used": key.used_at,
        "revoked": key.revoked_at,
    }


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
