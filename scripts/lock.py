"""Write the pinned requirement files of requirements/ from pyproject.toml.

    python3 scripts/lock.py            # keeps the pins that still fit
    python3 scripts/lock.py --upgrade  # takes the newest releases

Needs uv on the PATH or, failing that, installs it into a temporary environment. The files name no package
index: whoever installs from them takes the one that pip is set to. All but dev.txt carry the hash of every
artifact. dev.txt has none, since torch may come from a wheel built elsewhere; it is a constraints file.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST_PYTHON = "3.11"


@dataclass(frozen=True, kw_only=True)
class Lock:
    """One file of requirements/: what it is resolved from and what is said above it."""

    name: str
    note: str
    extras: tuple[str, ...] = ()
    requirements: str = ""
    leave_out: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    everywhere: bool = True
    """Resolved for every platform and Python, with hashes; else for Linux and the oldest Python, without."""

    @property
    def path(self) -> Path:
        """Where the file stands."""
        return ROOT / "requirements" / self.name


LOCKS = (
    Lock(
        name="serve-cpu.txt",
        extras=("cpu", "openvino", "s3"),
        note="Serving on a CPU: ONNX Runtime's CPU build and OpenVINO. pip install --require-hashes -r FILE",
    ),
    Lock(
        name="serve-cpu-lyrics.txt",
        extras=("cpu", "openvino", "s3", "lyrics"),
        constraints=("serve-cpu.txt",),
        note="The same with lyrics. pip install --require-hashes -r FILE",
    ),
    Lock(
        name="serve-gpu.txt",
        extras=("gpu", "s3"),
        constraints=("serve-cpu.txt",),
        note="Serving on an NVIDIA GPU, with CUDA 12. pip install --require-hashes -r FILE",
    ),
    Lock(
        name="serve-gpu-lyrics.txt",
        extras=("gpu", "s3", "lyrics"),
        constraints=("serve-gpu.txt",),
        leave_out=("onnxruntime",),
        note=(
            "The same with lyrics. pip install --no-deps --require-hashes -r FILE\n"
            "# Complete but for one line left out on purpose, hence --no-deps: faster-whisper asks for\n"
            "# `onnxruntime`, whose files would overwrite those of `onnxruntime-gpu`, the same module."
        ),
    ),
    Lock(
        name="build.txt",
        requirements="hatchling>=1.27\neditables>=0.5\n",
        note="What builds the wheel. pip install --require-hashes -r FILE, then --no-build-isolation",
    ),
    Lock(
        name="dev.txt",
        extras=("dev",),
        constraints=("serve-cpu.txt", "build.txt"),
        everywhere=False,
        note="Constraints of the development environment. pip install -c FILE -e '.[dev]'",
    ),
)


def find_uv(scratch: Path) -> str:
    """Path of uv; installed into `scratch` where the PATH has none."""
    found = shutil.which("uv")
    if found:
        return found
    subprocess.run([sys.executable, "-m", "venv", str(scratch / "uv")], check=True)
    subprocess.run([str(scratch / "uv/bin/pip"), "install", "--quiet", "uv"], check=True)
    return str(scratch / "uv/bin/uv")


def command(uv: str, lock: Lock, scratch: Path, *, upgrade: bool) -> list[str]:
    """Command line that resolves `lock` into scratch/NAME."""
    source = ROOT / "pyproject.toml"
    if lock.requirements:
        source = scratch / f"{lock.name}.in"
        source.write_text(lock.requirements)
    line = [uv, "pip", "compile", str(source), "--output-file", str(scratch / lock.name)]
    line += ["--python-version", OLDEST_PYTHON, "--no-header", "--no-annotate", "--quiet"]
    if lock.everywhere:
        line += ["--universal", "--fork-strategy", "fewest", "--generate-hashes"]
    else:
        line += ["--python-platform", "x86_64-manylinux_2_28"]
    line += [part for extra in lock.extras for part in ("--extra", extra)]
    line += [part for name in lock.leave_out for part in ("--no-emit-package", name)]
    line += [part for name in lock.constraints for part in ("--constraint", str(scratch / name))]
    line += ["--upgrade"] if upgrade else []
    return line


def write(uv: str, lock: Lock, scratch: Path, *, upgrade: bool) -> None:
    """Resolve one file and put it in place under its heading."""
    target = scratch / lock.name
    if lock.path.exists():
        shutil.copyfile(lock.path, target)
    subprocess.run(command(uv, lock, scratch, upgrade=upgrade), check=True, cwd=ROOT)
    body = target.read_text()
    if "://" in body:
        raise SystemExit(f"{lock.name} names a host; check the configuration of uv")
    lock.path.write_text(f"# {lock.note}\n# Made by scripts/lock.py; do not edit.\n{body}")
    print(f"{lock.name}: {sum('==' in line for line in body.splitlines())} pins", file=sys.stderr)


def main() -> None:
    """Write all files, in the order in which they constrain each other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--upgrade", action="store_true", help="take the newest releases")
    options = parser.parse_args()
    os.environ.setdefault("UV_SYSTEM_CERTS", "1")
    with tempfile.TemporaryDirectory() as folder:
        uv = find_uv(Path(folder))
        for lock in LOCKS:
            write(uv, lock, Path(folder), upgrade=options.upgrade)


if __name__ == "__main__":
    main()
