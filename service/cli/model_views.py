"""What the `models` commands show: rows of the list, and all facts of a model."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from stemwright.core.errors import StemwrightError
from stemwright.models.registry.catalog import CATALOG, CatalogEntry, CatalogModel
from stemwright.models.registry.sources import describe, settings_from_environment
from stemwright.models.registry.store import (
    AnyInstalled,
    InstalledBag,
    InstalledEmbedder,
    InstalledTagger,
    ModelStore,
)
from stemwright.service.cli.output import print_json_line

State = Literal["installed", "damaged", "to pull"]
# Width of a table that goes into a file or a pipe: nothing useful is cut off.
_PLAIN_WIDTH = 160


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """A line of `models list`."""

    name: str
    state: State
    kind: Literal["model", "bag", "tagger", "embedder"] | None = None
    stems: tuple[str, ...] = ()
    size_bytes: int | None = None
    licence: str = ""
    description: str = ""
    problem: str = ""

    def as_json(self) -> dict[str, object]:
        """Return the row as JSON data."""
        return {
            "name": self.name,
            "state": self.state,
            "kind": self.kind,
            "stems": list(self.stems),
            "size_bytes": self.size_bytes,
            "licence": self.licence,
            "description": self.description,
            "problem": self.problem or None,
        }


def model_rows(store: ModelStore) -> list[ModelRow]:
    """Return what is in the store, then what can be pulled."""
    rows = []
    for entry in store.entries():
        if entry.model is None:
            problem = entry.problem.message if entry.problem else ""
            rows.append(ModelRow(name=entry.name, state="damaged", problem=problem))
            continue
        manifest = entry.model.manifest
        rows.append(
            ModelRow(
                name=entry.name,
                state="installed",
                kind=manifest.kind,
                stems=manifest.stems,
                size_bytes=size_bytes(entry.model),
                licence=manifest.licence.name,
                description=manifest.description,
            )
        )
    present = {row.name for row in rows}
    rows.extend(
        ModelRow(
            name=known.name,
            state="to pull",
            kind=known.kind,
            stems=known.stems,
            licence=known.licence.name,
            description=known.description,
        )
        for known in CATALOG
        if known.name not in present
    )
    return rows


def size_bytes(model: AnyInstalled) -> int:
    """Return the size of a model's files, of a bag those of its members."""
    return sum(record.size for part in model.parts for record in part.manifest.files)


def print_rows(rows: Iterable[ModelRow]) -> None:
    """Print the list as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "state", "size", "stems"):
        table.add_column(
            heading, no_wrap=heading != "stems", justify="right" if heading == "size" else "left"
        )
    table.add_column("")
    for row in rows:
        size = "" if row.size_bytes is None else f"{row.size_bytes / 1e6:.0f} MB"
        other = f"({row.kind})" if row.kind in ("tagger", "embedder") else "(by query)"
        stems = ", ".join(row.stems) or other
        table.add_row(row.name, row.state, size, stems, row.problem or row.description)
    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    Console(width=width, markup=False, highlight=False).print(table)


def catalog_facts(entry: CatalogEntry) -> dict[str, Any]:
    """Return what the catalog says of a model that is not installed."""
    models = [entry] if isinstance(entry, CatalogModel) else [member.model for member in entry.members]
    settings = settings_from_environment()
    return {
        "name": entry.name,
        "state": "to pull",
        "kind": entry.kind,
        "description": entry.description,
        "stems": list(entry.stems),
        "licence": entry.licence.model_dump(),
        "sources": [describe(source, settings) for model in models for source in model.sources],
    }


def model_facts(model: AnyInstalled) -> dict[str, Any]:
    """Return all facts of an installed model."""
    facts: dict[str, Any] = {
        "name": model.name,
        "state": "installed",
        "path": str(model.folder if isinstance(model, InstalledBag) else model.graph_path),
        "sha256": model.sha256,
        "size_bytes": size_bytes(model),
    }
    manifest = model.manifest.model_dump(mode="json")
    if isinstance(model, InstalledTagger | InstalledEmbedder):
        del manifest["stems"]
    return facts | {"manifest": manifest}


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print facts as indented lines."""
    _print_level(facts, 0)


def _print_level(facts: Mapping[str, Any], level: int) -> None:
    pad = "  " * level
    for key, value in facts.items():
        label = key.replace("_", " ")
        if isinstance(value, Mapping):
            typer.echo(f"{pad}{label}:")
            _print_level(value, level + 1)
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            typer.echo(f"{pad}{label}:")
            for item in value:
                typer.echo(f"{pad}  - {_inline(item)}")
        elif value not in (None, "", []):
            typer.echo(f"{pad}{label}: {_inline(value)}")


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key} {_inline(item)}" for key, item in value.items() if item not in (None, "", [])
        )
    return ", ".join(_inline(item) for item in value) if isinstance(value, list) else str(value)


def print_outcomes(outcomes: Mapping[str, StemwrightError | None], *, as_json: bool) -> None:
    """Print the outcome of checking several models: results, or one line each."""
    if as_json:
        rows = [
            {"name": name, "ok": error is None, "problem": error.message if error else None}
            for name, error in outcomes.items()
        ]
        print_json_line({"models": rows})
        return
    for name, error in outcomes.items():
        typer.echo(f"{name}: ok" if error is None else f"{name}: {error.message} ({error.remedy})")
