"""What the commands of `stemwright train data` do."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from stemwright.core.errors import EXIT_OK, EXIT_SOME_FAILED, OptionError
from stemwright.training.data.anchors import AnchorRules
from stemwright.training.data.listing import LAYOUTS, Layout, find_recordings
from stemwright.training.data.pack_index import is_pack
from stemwright.training.data.packing import PackRules, open_data
from stemwright.training.data.packing import Progress as Report
from stemwright.training.data.summary import Summary, summary_of

_SHOWN = 20
_PLAIN_WIDTH = 160


@dataclass(frozen=True, kw_only=True)
class PackRequest:
    """What `pack` was asked: the data, where to, and `PackRules` with `AnchorRules`."""

    where: Path
    out: Path
    layout: str | None
    sample_rate: int | None
    channels: int | None
    tagger: str | None
    segment_s: float
    per_clip: int
    classes: tuple[tuple[str, str], ...]


def layout_named(name: str | None) -> Layout | None:
    """Return a layout by its name; raises OptionError with the nearest one."""
    if name is None:
        return None
    for layout in LAYOUTS:
        if layout == name:
            return layout
    near = get_close_matches(name, LAYOUTS, n=1)
    raise OptionError(
        f"there is no layout {name}", f"did you mean {near[0]}?" if near else f"one of {', '.join(LAYOUTS)}"
    )


def show_info(where: Path, *, layout: str | None, as_json: bool) -> int:
    """Print what is in a data folder or a pack."""
    summary = summary_of(where, layout_named(layout))
    if as_json:
        _print_json(summary.as_dict())
    else:
        _print_summary(where, summary)
    return EXIT_OK


def run_check(where: Path, *, layout: str | None, as_json: bool) -> int:
    """Decode all of a data folder; return 3 if anything of it cannot be used."""
    from stemwright.training.data.checking import check

    if is_pack(where):
        raise OptionError(f"{where} is a pack, in which nothing is left to check", "give the data folder")
    listing = find_recordings(where, layout_named(layout))
    with bar("checking") as report:
        found = check(listing, progress=report)
    faults = found.faults
    if as_json:
        told = [{"name": fault.name, "reason": fault.reason} for fault in faults]
        notes = [{"name": note.name, "reason": note.reason} for note in found.notes]
        _print_json({"layout": listing.layout, "recordings": listing.units, "faults": told, "notes": notes})
    else:
        console = _console()
        for fault in faults:
            console.print(f"{fault.name}: {fault.reason}")
        for note in found.notes:
            console.print(f"note: {note.name}: {note.reason}")
        console.print(f"{len(faults)} of {listing.units} recordings cannot be used")
    return EXIT_SOME_FAILED if faults else EXIT_OK


def run_pack(request: PackRequest) -> int:
    """Pack a data folder and print what the pack has."""
    from stemwright.training.data.pack_making import make_pack

    anchors = None
    if request.tagger is not None:
        anchors = AnchorRules(
            tagger=request.tagger,
            segment_s=request.segment_s,
            per_clip=request.per_clip,
            classes=request.classes,
        )
    rules = PackRules(sample_rate=request.sample_rate, channels=request.channels, anchors=anchors)
    listing = find_recordings(request.where, layout_named(request.layout))
    if anchors is not None and listing.kind != "events":
        raise OptionError(f"{request.where} has no sound events to find", "leave --tagger out")
    with bar("packing") as report:
        make_pack(listing, request.out, rules, progress=report)
    _print_summary(request.out, summary_of(request.out))
    return EXIT_OK


def run_preview(where: Path, out: Path, *, layout: str | None, count: int, seconds: float, seed: int) -> int:
    """Write a page of examples."""
    from stemwright.training.data.preview import source_of, write_preview

    if where.suffix == ".toml":
        from stemwright.training.config import read_config
        from stemwright.training.previewing import preview_run  # loads torch

        preview_run(read_config(where), out, count=count)
        _console().print(f"wrote {out}")
        return EXIT_OK
    known = layout_named(layout)
    kind = None if is_pack(where) else find_recordings(where, known).kind
    rules = PackRules(
        channels=1 if kind in ("speech", "events") else None,
        anchors=AnchorRules(segment_s=seconds) if kind == "events" else None,
    )
    with bar("packing") as report:
        data = open_data(where, rules, layout=known, progress=report)
    write_preview(source_of(data, seconds=seconds), out, title=where.name, count=count, seed=seed)
    _console().print(f"wrote {out}")
    return EXIT_OK


@contextmanager
def bar(what: str) -> Iterator[Report]:
    """Show a bar on standard error where that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as shown:
        task = shown.add_task(what, total=None)

        def report(done: int, total: int) -> None:
            shown.update(task, completed=done, total=total)

        yield report


def _print_summary(where: Path, summary: Summary) -> None:
    console = _console()
    what = f"{summary.kind} ({summary.layout})"
    console.print(f"{where}: {what}, {summary.recordings} recordings in {summary.groups} groups")
    if summary.seconds is not None:
        console.print(
            f"pack: {summary.seconds / 60:.1f} minutes, {summary.sample_rate} Hz, {summary.channels} channels"
        )
    for title, counts in (
        ("stems", summary.roles),
        ("parts", summary.splits),
        ("labels", summary.labels),
        ("segments found", summary.anchors),
    ):
        if counts:
            console.print(_counted(title, counts))
    for name, reason in summary.faults[:_SHOWN]:
        console.print(f"left out: {name}: {reason}")
    if len(summary.faults) > _SHOWN:
        console.print(f"left out: {len(summary.faults) - _SHOWN} more")


def _counted(title: str, counts: dict[str, int]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title)
    table.add_column("recordings", justify="right")
    for name, count in counts.items():
        table.add_row(name, str(count))
    return table


def _print_json(content: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(content, ensure_ascii=False) + "\n")


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, markup=False, highlight=False)
