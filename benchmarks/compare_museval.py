"""BSS Eval 4 by stemwright beside museval: time, peak memory and the largest difference of any frame.

    python benchmarks/compare_museval.py SONG... --museval-python venv/bin/python [--minutes 1 2 5]

SONG is a folder with one file per stem (MUSDB18-HQ's form); several are joined, and repeated until the
track is long enough. Estimates are made of them: each stem filtered, with some of the others and some noise.
museval 0.4.1 is a package of your own in an environment of its own (it wants ffmpeg on the PATH when it is
imported); its time is that of the scoring alone, from arrays, ours that of reading the files too. Each runs
in a process of its own, one after the other. Times and memory are those of the default; the differences
are those of `exact`, which does as museval does where references lack bandwidth.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

RATE = 44100
MUSEVAL = """
import json, resource, sys, time
import numpy as np, soundfile
import museval.metrics
folder, names, out = sys.argv[1], sys.argv[2].split(","), sys.argv[3]
read = lambda kind: np.stack([soundfile.read(f"{folder}/{kind}/{name}.wav")[0] for name in names])
true, found = read("true"), read("found")
start, before = time.perf_counter(), time.process_time()
scores = museval.metrics.bss_eval(true, found, window=44100, hop=44100)
took = time.perf_counter() - start
cpu = time.process_time() - before
np.save(out, np.stack(scores[:4]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": took, "cpu_s": cpu, "peak_mib": peak}))
"""
OURS = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
from stemwright.eval.bss_eval.images import ImagesOptions, score_images
from stemwright.eval.stem_folders import open_stem_folders
folder, names, out = Path(sys.argv[1]), tuple(sys.argv[2].split(",")), sys.argv[3]
start, before = time.perf_counter(), time.process_time()
pairs = open_stem_folders(folder / "true", folder / "found", names)
scores = score_images(pairs, ImagesOptions(exact=sys.argv[5] == 'exact', threads=int(sys.argv[4])))
took = time.perf_counter() - start
cpu = time.process_time() - before
np.save(out, scores.values)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": took, "cpu_s": cpu, "peak_mib": peak}))
"""


def joined(songs: list[Path], seconds: float) -> dict[str, np.ndarray]:
    """Return every stem of the songs one after another, repeated to a length; shapes=(n, 2)."""
    names = sorted({path.stem for path in songs[0].iterdir()} & {"bass", "drums", "other", "vocals"})
    stems = {}
    for name in names:
        parts = []
        for song in songs:
            (path,) = [file for file in song.iterdir() if file.stem == name]
            samples, rate = soundfile.read(path, always_2d=True)
            if rate != RATE:
                raise SystemExit(f"{path} has {rate} Hz")
            parts.append(samples)
        whole = np.concatenate(parts)
        wanted = round(seconds * RATE)
        stems[name] = np.tile(whole, (-(-wanted // len(whole)), 1))[:wanted]
    return stems


def write(folder: Path, stems: dict[str, np.ndarray]) -> None:
    """Write references and estimates."""
    generator = np.random.default_rng(0)
    mixture = sum(stems.values())
    for kind in ("true", "found"):
        (folder / kind).mkdir()
    for name, stem in stems.items():
        estimate = 0.9 * stem + 0.1 * np.roll(stem, 5, axis=0) + 0.1 * (mixture - stem)
        estimate += 0.003 * generator.standard_normal(stem.shape)
        for kind, samples in (("true", stem), ("found", estimate)):
            soundfile.write(folder / kind / f"{name}.wav", samples, RATE, subtype="FLOAT")


def run(python: str, code: str, *arguments: str) -> dict[str, float]:
    """Run code in a process of its own; return what it prints."""
    done = subprocess.run([python, "-c", code, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Print a line for each length."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("songs", nargs="+", type=Path)
    parser.add_argument("--museval-python", default=sys.executable)
    parser.add_argument("--minutes", nargs="+", type=float, default=[1, 2, 5])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, {arguments.threads} threads; load {os.getloadavg()[0]:.1f}")
    print("minutes  museval s  CPU s   MiB   ours s  CPU s   MiB   ratio    exact s   difference dB (frames)")
    for minutes in arguments.minutes:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            stems = joined(arguments.songs, 60 * minutes)
            write(folder, stems)
            names = ",".join(stems)
            del stems
            ours = folder / "ours.npy"
            given = str(folder), names, str(ours), str(arguments.threads)
            mine = run(sys.executable, OURS, *given, "robust")
            exact = run(sys.executable, OURS, *given, "exact")
            time.sleep(1)
            theirs = folder / "museval.npy"
            other = run(arguments.museval_python, MUSEVAL, str(folder), names, str(theirs))
            # museval's order: SDR, ISR, SIR, SAR
            apart = np.abs(np.load(theirs) - np.load(ours))
            same = np.array_equal(np.isnan(np.load(theirs)), np.isnan(np.load(ours)))
            print(
                f"{minutes:7g} {other['seconds']:10.1f} {other['cpu_s']:6.1f} {other['peak_mib']:5.0f} "
                f"{mine['seconds']:8.2f} {mine['cpu_s']:6.2f} {mine['peak_mib']:5.0f} "
                f"{other['seconds'] / mine['seconds']:7.1f} {exact['seconds']:10.2f}   "
                f"{np.nanmax(apart):.1e} ({int(np.isfinite(apart[0, 0]).sum())} of {apart.shape[2]})"
                + ("" if same else "  NaN elsewhere!"),
                flush=True,
            )


if __name__ == "__main__":
    main()
