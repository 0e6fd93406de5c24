"""Damaged recordings over HTTP to a running service: no 5xx, no hang, every job ends, memory stays flat.

    python benchmarks/fuzz_uploads.py URL --count 2000 --api-pid PID

Files of eleven formats are damaged in nine ways (tests/support/mutants.py), the same for the same --seed.
Each is submitted, followed to its end, and deleted. Prints outcomes by code, the slowest jobs, and resident
memory of the process PID and of its children over the run. Exit code 1 if anything was not as it should be.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stemwright.core.errors import StemwrightError, UserError
from stemwright.service.client import AsyncClient
from tests.support.mutants import Mutant, healthy, mutants

_PATIENCE_S = 300.0


@dataclass(kw_only=True)
class Findings:
    """What came of it."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: list[tuple[float, str]] = field(default_factory=list)
    memory: list[str] = field(default_factory=list)

    def add(self, mutant: Mutant, outcome: str, seconds: float, *, right: bool) -> None:
        """Note the end of one file."""
        self.outcomes[outcome] += 1
        self.slowest = sorted([*self.slowest, (seconds, mutant.name)], reverse=True)[:5]
        if not right:
            self.wrong.append(f"{mutant.name}: {outcome}")


async def try_one(client: AsyncClient, mutant: Mutant, folder: Path, findings: Findings, model: str) -> None:
    """Submit one file and see it to its end."""
    path = folder / mutant.name.replace("/", "_")
    path.write_bytes(mutant.data)
    began = time.monotonic()
    try:
        job = await client.submit(path, model=model)
        job = await asyncio.wait_for(client.wait(job.id), _PATIENCE_S)
        await client.delete(job.id)
    except TimeoutError:
        findings.add(mutant, "hang", time.monotonic() - began, right=False)
    except StemwrightError as error:  # an answer of the API itself
        right = isinstance(error, UserError)
        findings.add(mutant, f"answer {error.code}", time.monotonic() - began, right=right)
        if not right:
            findings.wrong[-1] += f" ({error.message})"
    else:
        code = job.error.code if job.error is not None else ""
        right = job.status == "succeeded" or isinstance(job.error, UserError)
        findings.add(mutant, f"{job.status} {code}".strip(), time.monotonic() - began, right=right)
        if not right and job.error is not None:
            findings.wrong[-1] += f" ({job.error.message})"
    finally:
        path.unlink()


def resident_mib(pid: int) -> dict[str, float]:
    """Resident memory of a process and of what it started, by pid and name."""
    found: dict[str, float] = {}
    parents = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            facts = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        except OSError:
            continue  # it ended meanwhile
        parents[int(facts["Pid"])] = (int(facts["PPid"]), facts["Name"], facts.get("VmRSS", "0 kB"))
    for one, (_, name, rss) in parents.items():
        above = one
        while above and above != pid:
            above = parents.get(above, (0, "", ""))[0]
        if above == pid:
            found[f"{name} {one}"] = int(rss.split()[0]) / 1024
    return found


async def fuzz(options: argparse.Namespace) -> Findings:
    """Send all files, some at a time."""
    findings = Findings()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = mutants(healthy(folder), options.count, options.seed)
        async with AsyncClient(options.server, key=options.key) as client:
            running: set[asyncio.Task[None]] = set()
            for number, mutant in enumerate(files):
                if len(running) >= options.at_a_time:
                    _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                running.add(asyncio.create_task(try_one(client, mutant, folder, findings, options.model)))
                if options.api_pid and number % max(1, options.count // 10) == 0:
                    memory = resident_mib(options.api_pid)
                    largest = sorted(memory.items(), key=lambda item: -item[1])[:4]
                    note = ", ".join(f"{name} {mib:.0f}" for name, mib in largest)
                    findings.memory.append(f"{number:6d}: {note} MiB")
                    print(findings.memory[-1], dict(findings.outcomes), flush=True)
            await asyncio.gather(*running)
    return findings


def main() -> int:
    """Run it, and tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("server")
    parser.add_argument("--key")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-a-time", type=int, default=8)
    parser.add_argument("--api-pid", type=int, default=0)
    options = parser.parse_args()
    began = time.monotonic()
    findings = asyncio.run(fuzz(options))
    print(f"{sum(findings.outcomes.values())} files in {time.monotonic() - began:.0f} s")
    for outcome, count in findings.outcomes.most_common():
        print(f"  {count:6d}  {outcome}")
    print("slowest:", *(f"  {seconds:.1f} s  {name}" for seconds, name in findings.slowest), sep="\n")
    print("not as it should be:", len(findings.wrong), *findings.wrong[:20], sep="\n  ")
    return 1 if findings.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
