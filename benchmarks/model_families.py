"""What every family and generation of networks costs, and whether each device computes the same.

    python benchmarks/model_families.py --device cpu --device openvino [--only htdemucs ...]
    python benchmarks/model_families.py --only none --installed htdemucs --song SONG.wav --device cuda

The networks have their true sizes and random weights (random_models.py), so that no weights are needed.
One window goes through `open_session` on every device: error against ONNX Runtime in float32 on the CPU,
median time of a call after the first, seconds of audio per second of the device as it is used (calls side
by side, batches), peak memory of the process, and of its share of the card. CUDA runs in float16 too.
An installed model separates a recording from samples to samples besides. Prints Markdown tables; `--json`
keeps all numbers.

Every network and device has a process of its own. With `--jobs` several prepare at once; what is measured
has the machine to itself.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from family_rows import Order, Row
from pydantic import TypeAdapter
from random_models import NETWORKS

_ROWS = TypeAdapter(list[Row])
_YAMNET = "yamnet"


def main() -> None:
    """Measure what is asked for and print it."""
    arguments = parse_arguments()
    begun = time.monotonic()
    names = chosen(arguments.only)
    rows: list[Row] = []

    def measure(name: str) -> list[Row]:
        left = arguments.budget - (time.monotonic() - begun)
        if left <= 0:
            return [Row(network=name, title=name, device="", failure="no time left")]
        return measured(name, arguments, left)

    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="families-") as work:
        arguments.work = Path(work)
        with ThreadPoolExecutor(arguments.jobs) as pool:
            for found in pool.map(measure, names):
                rows += found
                for row in found:
                    print(row.line(), file=sys.stderr, flush=True)
        for name in arguments.installed:
            rows += run_order(order(name, arguments, installed=True), arguments.budget)
    print_tables(rows)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([row.model_dump() for row in rows], indent=1) + "\n")
    sys.exit(1 if any(row.failure for row in rows) else 0)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", action="append", help="may be repeated; default: cpu")
    parser.add_argument("--only", nargs="+", default=["all"], help=f"all, none, {', '.join(NETWORKS)}")
    parser.add_argument("--skip", nargs="+", default=[], help="networks to leave out")
    parser.add_argument("--installed", nargs="+", default=[], help="names or folders of models")
    parser.add_argument("--song", type=Path, help="recording for --installed (WAV or FLAC)")
    parser.add_argument("--song-seconds", type=float, help="how much of it")
    parser.add_argument("--stems", type=Path, help="folder for the stems of --installed, as .npy")
    parser.add_argument("--seconds", type=float, default=3.0, help="time to spend on repeated calls")
    parser.add_argument("--budget", type=float, default=7200.0, help="begin nothing new after this many s")
    parser.add_argument("--jobs", type=int, default=1, help="networks to prepare at once")
    parser.add_argument("--threads", type=int, help="CPU threads of a session")
    parser.add_argument("--work", type=Path, help="where models are built, in float16; up to 5 GB")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    arguments = parser.parse_args()
    arguments.device = arguments.device or ["cpu"]
    return arguments


def chosen(only: Sequence[str]) -> list[str]:
    """Names of the networks that are meant."""
    everything = [*NETWORKS, _YAMNET]
    if list(only) == ["none"]:
        return []
    names = everything if list(only) == ["all"] else list(only)
    if unknown := sorted(set(names) - set(everything)):
        sys.exit(f"there is no network {unknown[0]}; there are {', '.join(everything)}")
    return names


def measured(name: str, arguments: argparse.Namespace, left: float) -> list[Row]:
    """Measure one network on all devices; the CPU comes first, for the others are compared with it."""
    if name in arguments.skip:
        return []
    asked = order(name, arguments)
    rows: list[Row] = []
    for device in dict.fromkeys(("cpu", *arguments.device)):
        found = run_order(asked.model_copy(update={"device": device}), left)
        rows += [row for row in found if device in arguments.device or row.failure]
        if any(row.failure for row in found) and device == "cpu":
            break
    for file in sorted(asked.folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    return rows


def order(name: str, arguments: argparse.Namespace, *, installed: bool = False) -> Order:
    """Make the order for the process that measures."""
    return Order(
        network=name,
        folder=arguments.work / Path(name).name,
        lock=arguments.work / "lock",
        devices=tuple(arguments.device) if installed else (),
        installed=installed,
        song=arguments.song if installed else None,
        song_seconds=arguments.song_seconds,
        stems=arguments.stems if installed else None,
        seconds=arguments.seconds,
        threads=arguments.threads,
    )


def run_order(asked: Order, limit: float) -> list[Row]:
    """Run one process; what it could not do is in its rows."""
    script = Path(__file__).with_name("family_process.py")
    command = [sys.executable, str(script), asked.model_dump_json()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit + 60, check=False)
    except subprocess.TimeoutExpired:
        return [asked.failed(f"no answer within {limit + 60:.0f} s")]
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        told = done.stderr.strip().splitlines() or ["no message"]
        return [asked.failed(f"ended with {done.returncode}: {told[-1][:200]}")]
    return _ROWS.validate_json(lines[-1])


def print_tables(rows: Sequence[Row]) -> None:
    """Print Markdown tables of networks and of recordings."""
    for headings, lines in (
        (Row.HEADINGS, [row.cells() for row in rows if not row.song_s]),
        (Row.SONG_HEADINGS, [row.song_cells() for row in rows if row.song_s]),
    ):
        if lines:
            print(f"\n| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
            print("\n".join(f"| {' | '.join(cells)} |" for cells in lines), flush=True)


if __name__ == "__main__":
    main()
