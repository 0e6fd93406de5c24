"""`stemwright separate` beside the `demucs` command: whole processes, taking turns.

    python benchmarks/compare_demucs.py SONG... --ours openvino:bfloat16 --ours cpu:float32

Each SONG is a recording, or a folder with `mixture.*` and the true stems. They are joined, and
repeated, to at least `--minutes`. The demucs command runs with the very weights of the installed
model: a `.th` file, named by its own hash, is made from them for its `--repo`. Needs the demucs
package, and the model installed (`stemwright models pull htdemucs`).

Prints wall and CPU seconds and peak memory (medians over the rounds, ratios round by round), and,
for folders, the SDR of every stem of both against the true stems.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile as sf
from demucs_checkpoint import SIGNATURE, write_checkpoint
from songs import RATE, Audio, Song, decibels, read_audio, read_song, row, sdr

from stemwright.models.registry.store import InstalledModel, ModelStore, open_model

WARM_UP_S = 10


@dataclass(kw_only=True)
class Racer:
    """A command, where it writes its stems, and what its turns took."""

    label: str
    command: list[str]  # without the recording, which comes last
    out: Path
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)

    def take_turn(self, song: Path, environment: dict[str, str], log: Path) -> None:
        """Run the command once; stop with its last words if it fails."""
        started = time.perf_counter()
        with log.open("w") as output:
            process = subprocess.Popen(
                [*self.command, str(song)], stdout=output, stderr=output, env=environment
            )
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"{self.label} failed:\n{log.read_text()[-2000:]}")
        self.wall_s.append(time.perf_counter() - started)
        self.cpu_s.append(usage.ru_utime + usage.ru_stime)
        self.peak_mib.append(usage.ru_maxrss / 1024)

    def stem(self, name: str) -> Audio:
        """One of the stems that it wrote."""
        return read_audio(
            next(path for path in self.out.rglob(f"{name}.wav") if path.parent.name == "joined")
        )


def main() -> None:
    """Read the arguments and race."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("songs", nargs="+", type=Path)
    parser.add_argument("--ours", action="append", metavar="DEVICE:PRECISION", help="may be repeated")
    parser.add_argument("--model", default="htdemucs")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    model = open_model(arguments.model, ModelStore())
    if not isinstance(model, InstalledModel):
        sys.exit(f"{arguments.model} is a bag; name a single model")
    songs = [read_song(path) for path in arguments.songs]
    with tempfile.TemporaryDirectory(prefix="compare-demucs-") as folder:
        work = Path(folder)
        joined = join([song.mixture for song in songs], round(arguments.minutes * 60 * RATE))
        for name, samples in (("joined", joined), ("short", joined[:, : WARM_UP_S * RATE])):
            sf.write(work / f"{name}.wav", samples.T, RATE, subtype="PCM_16")
        write_checkpoint(model, work / "repo")
        racers = line_up(work, arguments.model, arguments.ours or ["auto:auto"])
        race(racers, arguments.rounds, work)
        print_speed(racers, joined.shape[1] / RATE)
        print_quality(racers, songs, model.manifest.stems, joined)


def join(mixtures: list[Audio], least: int) -> Audio:
    """All songs one after the other, over and over until there are `least` samples."""
    once = np.concatenate(mixtures, axis=1)
    return np.tile(once, (1, -(-least // once.shape[1])))


def line_up(work: Path, model: str, ours: list[str]) -> list[Racer]:
    """Give the demucs command first, then ours."""
    out = work / "demucs"
    peer = [sys.executable, "-m", "demucs", "--repo", str(work / "repo"), "-n", SIGNATURE, "-d", "cpu"]
    racers = [Racer(label="demucs", command=[*peer, "--shifts", "0", "-o", str(out)], out=out)]
    for choice in ours:
        device, _, precision = choice.rpartition(":")
        out = work / choice.replace(":", "-")
        code = "from stemwright.service.cli.main import main; main()"
        command = [sys.executable, "-c", code, "separate", "-o", str(out), "-m", model, "--overwrite"]
        command += ["--device", device, "--precision", precision]
        racers.append(Racer(label=choice, command=command, out=out))
    return racers


def race(racers: list[Racer], rounds: int, work: Path) -> None:
    """Let all take turns, after a short one that fills caches and is not counted."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for racer in racers:
        racer.take_turn(work / "short.wav", environment, work / "log.txt")
        racer.wall_s, racer.cpu_s, racer.peak_mib = [], [], []
    for turn in range(rounds):
        for racer in racers:
            racer.take_turn(work / "joined.wav", environment, work / "log.txt")
            print(f"round {turn + 1}: {racer.label} {racer.wall_s[-1]:.1f} s", file=sys.stderr)


def print_speed(racers: list[Racer], seconds: float) -> None:
    """Medians, and ratios to the first."""
    print(f"{seconds:.0f} s of audio, {len(racers[0].wall_s)} rounds; whole processes, medians\n")
    print(f"{'':24}{'wall s':>9}{'CPU s':>9}{'x wall':>9}{'x CPU':>9}{'peak MiB':>10}")
    for racer in racers:
        wall, cpu = (
            statistics.median(a / b for a, b in zip(first, own, strict=True))
            for first, own in ((racers[0].wall_s, racer.wall_s), (racers[0].cpu_s, racer.cpu_s))
        )
        print(
            f"{racer.label:24}{statistics.median(racer.wall_s):9.1f}{statistics.median(racer.cpu_s):9.1f}"
            f"{wall:9.2f}{cpu:9.2f}{max(racer.peak_mib):10.0f}"
        )


def print_quality(racers: list[Racer], songs: list[Song], names: Sequence[str], joined: Audio) -> None:
    """Error against the demucs command, and SDR against true stems."""
    theirs = {name: racers[0].stem(name) for name in names}
    power = float(np.sum(joined.astype(np.float64) ** 2))
    print("\nerror against demucs, dB relative to the mixture; both wrote 16 bits")
    for racer in racers[1:]:
        wrong = (float(np.sum((racer.stem(n).astype(np.float64) - theirs[n]) ** 2)) for n in names)
        errors = [decibels(one, power) for one in wrong]
        print(row(racer.label, names, errors, 1))
    start = 0
    for song in songs:
        span = slice(start, start + song.mixture.shape[1])
        start = span.stop
        known = [name for name in names if name in song.stems and np.any(song.stems[name])]
        if not known:
            continue
        print(f"\nSDR in dB, {song.name}")
        for racer in racers:
            values = [sdr(song.stems[name], racer.stem(name)[:, span]) for name in known]
            print(
                f"{racer.label:24}" + "".join(f"{n:>9}{v:8.3f}" for n, v in zip(known, values, strict=True))
            )


if __name__ == "__main__":
    main()
