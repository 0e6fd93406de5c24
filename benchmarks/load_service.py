"""Load on a running service, measured from outside.

    python benchmarks/load_service.py poll URL FILE --clients 50 --seconds 60
    python benchmarks/load_service.py upload URL --gigabytes 2 --api-pid PID
    python benchmarks/load_service.py batch URL FOLDER --model MODEL --device cpu

`poll`: each client uploads FILE once, and asks for its job once a second; prints percentiles of the times of
those questions. `upload`: sends a file of that size as a form, then in pieces, and prints the API's largest
resident memory meanwhile. `batch`: separates FOLDER with `stemwright batch` here and with `--server`, in
turns, and prints the times; the service should run one worker of the same device. All print the load.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from stemwright.service.client import AsyncClient


def percentile(values: list[float], part: float) -> float:
    """Return the value below which a part of all lies."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


async def poll(options: argparse.Namespace) -> None:
    """Measure the answers to many that ask."""
    times: list[float] = []
    failures: list[str] = []
    async with AsyncClient(options.server, key=options.key, patience_s=600) as client:
        jobs = await asyncio.gather(
            *(client.submit(options.file, model=options.model) for _ in range(options.clients))
        )
        headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}
        limits = httpx.Limits(max_connections=options.clients)
        async with httpx.AsyncClient(
            base_url=options.server, headers=headers, limits=limits, timeout=60
        ) as http:

            async def ask(job_id: str, delay_s: float) -> None:
                await asyncio.sleep(delay_s)
                end = time.monotonic() + options.seconds
                while time.monotonic() < end:
                    began = time.monotonic()
                    answer = await http.get(f"/v1/jobs/{job_id}")
                    times.append(time.monotonic() - began)
                    if not answer.is_success:
                        failures.append(f"{answer.status_code} {answer.text[:200]}")
                    await asyncio.sleep(max(0.0, 1 - (time.monotonic() - began)))

            await asyncio.gather(*(ask(job.id, i / options.clients) for i, job in enumerate(jobs)))
        states = [(await client.get(job.id)).status for job in jobs]
        for job in jobs:
            await client.delete(job.id)
    print(
        f"{len(times)} questions of {options.clients} clients: p50 {1000 * statistics.median(times):.0f} ms,"
        f" p99 {1000 * percentile(times, 0.99):.0f} ms, most {1000 * max(times):.0f} ms;"
        f" {len(failures)} failures; {states.count('succeeded')} jobs done meanwhile"
    )
    print(*failures[:5], sep="\n")


def watch_memory(pid: int, stop: threading.Event) -> list[float]:
    """Note a process's resident memory in MiB, ten times a second."""
    seen: list[float] = []
    while not stop.wait(0.1):
        status = Path(f"/proc/{pid}/status").read_text()
        seen.append(int(status.partition("VmRSS:")[2].split()[0]) / 1024)
    return seen


def measured(pid: int, work: Callable[[], None]) -> tuple[float, float]:
    """Do something; return its seconds, and the process's largest memory meanwhile."""
    stop, seen = threading.Event(), list[float]()
    thread = threading.Thread(target=lambda: seen.extend(watch_memory(pid, stop)))
    thread.start()
    began = time.monotonic()
    try:
        work()
    finally:
        seconds = time.monotonic() - began
        stop.set()
        thread.join()
    return seconds, max(seen)


def upload(options: argparse.Namespace) -> None:
    """Measure the API while a large file comes in."""
    headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}
    with (
        tempfile.NamedTemporaryFile(prefix="large-", dir=options.scratch) as file,
        httpx.Client(base_url=options.server, headers=headers, timeout=600) as http,
    ):
        file.truncate(round(options.gigabytes * 1e9))
        size = os.path.getsize(file.name)

        def as_form() -> None:
            with open(file.name, "rb") as stream:
                job = http.post("/v1/jobs", files={"file": ("large.wav", stream)})
            job.raise_for_status()
            http.post(f"/v1/jobs/{job.json()['id']}/cancel")
            http.delete(f"/v1/jobs/{job.json()['id']}")

        def in_pieces() -> None:
            async def send() -> None:
                async with AsyncClient(options.server, key=options.key) as client:
                    job = await client.submit(file.name)
                    await client.cancel(job.id)
                    await client.delete(job.id)

            asyncio.run(send())

        for label, work in (("as a form", as_form), ("in pieces", in_pieces)):
            seconds, most = measured(options.api_pid, work)
            print(f"{size / 1e9:.1f} GB {label}: {seconds:.1f} s, API at most {most:.0f} MiB", flush=True)


def batch(options: argparse.Namespace) -> None:
    """Measure a folder here and through the service, in turns."""
    command = [
        str(Path(sys.executable).parent / "stemwright"),
        "batch",
        str(options.folder),
        "-m",
        options.model,
    ]
    here = ["--device", options.device]
    there = ["--server", options.server, *(["--key", options.key] if options.key else [])]
    ratios = []
    for number in range(options.rounds):
        seconds = {}
        for label, more in (("here", here), ("server", there)):
            with tempfile.TemporaryDirectory(dir=options.scratch) as out:
                began = time.monotonic()
                subprocess.run([*command, "-o", out, *more], check=True, stdout=subprocess.DEVNULL)
                seconds[label] = time.monotonic() - began
        ratios.append(seconds["server"] / seconds["here"])
        print(f"round {number}: " + ", ".join(f"{k} {v:.1f} s" for k, v in seconds.items()), flush=True)
    print(f"through the service: {statistics.median(ratios):.3f} times as long (median of {len(ratios)})")


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("what", choices=["poll", "upload", "batch"])
    parser.add_argument("server")
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--key")
    parser.add_argument("--model", default="htdemucs")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--api-pid", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", type=Path)
    options = parser.parse_args()
    options.folder = options.file
    print(f"load of the machine at the beginning: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    if options.what == "poll":
        asyncio.run(poll(options))
    elif options.what == "upload":
        upload(options)
    else:
        batch(options)
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
