"""Every metric beside the field's tools on randomised signals: the largest difference of any value.

    python benchmarks/metric_agreement.py [--cases 200] [--tool NAME]

Tools are packages of your own: museval (it wants ffmpeg on the PATH when it is imported), mir_eval,
fast_bss_eval, torchmetrics, auraloss, librosa, pystoi, pesq. One that is not installed is named and passed
over.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.eval.agreement import COMPARISONS, compare


def main() -> None:
    """Print a line for each column of each comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--tool", action="append", help="may be repeated; default: all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print("| metric | column | tool | version | cases | values | largest difference |")
    print("|---|---|---|---|---|---|---|")
    missing: dict[str, str] = {}
    for one in COMPARISONS:
        if arguments.tool and one.tool not in arguments.tool:
            continue
        start = time.perf_counter()
        try:
            found = compare(one, arguments.cases, arguments.seed)
        except ImportError as error:
            missing[one.tool] = str(error)
            continue
        for row in found:
            print(
                f"| {one.metric} | {row.column} | {one.tool} | {one.version()} | {row.cases} | {row.values} "
                f"| {row.largest:.1e} |",
                flush=True,
            )
        print(f"{one.metric}, {one.tool}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    for tool, reason in missing.items():
        print(f"not compared: {tool} ({reason})")


if __name__ == "__main__":
    main()
