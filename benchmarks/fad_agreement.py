"""Hold our Fréchet distances against fadtk 1.1.0's own function, and read its published statistics.

fadtk needs numpy below 2: give it an environment of its own,

    python3 -m venv fadtk && fadtk/bin/pip install 'numpy<2' 'scipy<1.14' hypy_utils tqdm requests
    fadtk/bin/pip install --no-deps fadtk==1.1.0
    python benchmarks/fad_agreement.py fadtk/bin/python

torch, librosa and soundfile, which its Fréchet function does not use, are replaced by empty modules there.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from stemwright.eval.embedding.distances import FrameStatistics, Gaussian, frechet_distance, song_to_song

KINDS = ("song to song, float16", "sets, full rank", "sets, no full rank", "correlated sets", "published")
_THEIRS = """
import sys, types, warnings
from importlib.machinery import ModuleSpec
from unittest.mock import MagicMock
for name in ("torch", "torch.nn", "torch.nn.functional", "torchaudio", "librosa", "soundfile"):
    module = MagicMock(); module.__spec__ = ModuleSpec(name, None); sys.modules[name] = module
warnings.simplefilter("ignore")
import numpy as np
import fadtk.fad as fad
from pathlib import Path
source, target = sys.argv[1:]
with np.load(source) as cases:
    made = {}
    for key in cases.files:
        if not key.endswith(".a") or key.endswith(".cov.a"):
            continue
        name = key[:-2]
        one, other = (
            fad.calc_embd_statistics(cases[name + part]) if cases[name + part].ndim == 2
            and name + ".cov" + part not in cases.files
            else (cases[name + part], cases[name + ".cov" + part])
            for part in (".a", ".b")
        )
        try:
            made[name] = float(np.real(fad.calc_frechet_distance(*one, *other)))
        except (ValueError, np.linalg.LinAlgError):
            made[name] = np.nan
np.savez(target, stats=str(Path(fad.__file__).parent / "stats" / "fma_pop.npz"), **made)
"""


def cases_of(kind: str, count: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return frames of both sides, by a name."""
    draws = np.random.default_rng(KINDS.index(kind))
    made = {}
    for number in range(count):
        size = int(draws.integers(2, 64))
        few, many = (int(draws.integers(2, size + 2)), int(draws.integers(4 * size, 8 * size + 20)))
        n = few if kind in ("song to song, float16", "sets, no full rank") else many
        m = n if kind != "sets, full rank" else int(draws.integers(4 * size, 8 * size + 20))
        one = draws.normal(0, 10.0 ** draws.uniform(-3, 1), (n, size))
        other = draws.normal(draws.uniform(-1, 1), 10.0 ** draws.uniform(-3, 1), (m, size))
        if kind == "correlated sets":
            other = one + 0.05 * other
        if kind == "song to song, float16":
            one, other = one.astype(np.float16), other.astype(np.float16)
        made[f"{kind}/{number}"] = (one, other)
    return made


def gaussian_of(frames: np.ndarray) -> Gaussian:
    """Return the Gaussian of frames as ours."""
    statistics = FrameStatistics.empty(frames.shape[1])
    statistics.add(frames.astype(np.float32) if frames.dtype == np.float16 else frames)
    return statistics.gaussian()


def main() -> None:
    """Print a row for each kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("python", type=Path, help="of the environment with fadtk")
    parser.add_argument("--cases", type=int, default=200)
    options = parser.parse_args()
    cases = {name: pair for kind in KINDS[:4] for name, pair in cases_of(kind, options.cases).items()}
    with tempfile.TemporaryDirectory() as place:
        source, target = Path(place) / "cases.npz", Path(place) / "theirs.npz"
        arrays = {
            f"{name}{part}": one
            for name, pair in cases.items()
            for part, one in zip((".a", ".b"), pair, strict=True)
        }
        np.savez(source, **arrays)
        subprocess.run([options.python, "-c", _THEIRS, source, target], check=True)
        with np.load(target) as archive:
            theirs = {name: float(archive[name]) for name in cases}
            statistics = Path(str(archive["stats"]))
        show(cases, theirs)
        show_published(options.python, statistics, Path(place))


def show(cases: dict[str, tuple[np.ndarray, np.ndarray]], theirs: dict[str, float]) -> None:
    """Print the largest difference of each kind, relative to the sum of both traces and the distance."""
    for kind in KINDS[:4]:
        differences, failed = [], 0
        for name, (one, other) in cases.items():
            if not name.startswith(f"{kind}/"):
                continue
            if kind == "song to song, float16":
                ours = song_to_song(one, other)
            else:
                ours = frechet_distance(gaussian_of(one), gaussian_of(other))
            if not np.isfinite(theirs[name]):
                failed += 1
                continue
            level = one.astype(float).var(axis=0).sum() + other.astype(float).var(axis=0).sum() + abs(ours)
            differences.append(abs(ours - theirs[name]) / level)
        print(f"| {kind} | {len(differences)} | {max(differences):.1e} | fadtk failed: {failed} |")


def show_published(python: Path, path: Path, place: Path) -> None:
    """Compare published Gaussians of one embedder with those of another of the same size."""
    with np.load(path) as archive:
        names = sorted(name.removesuffix(".mu") for name in archive.files if name.endswith(".mu"))
        found = {name: (archive[f"{name}.mu"], archive[f"{name}.cov"]) for name in names}
    pairs = [
        (one, other)
        for one in names
        for other in names
        if one < other and found[one][0].shape == found[other][0].shape and found[one][0].size <= 512
    ]
    arrays = {}
    for one, other in pairs:
        for part, name in ((".a", one), (".b", other)):
            arrays[f"{one}~{other}{part}"], arrays[f"{one}~{other}.cov{part}"] = found[name]
    np.savez(place / "published.npz", **arrays)
    command = [python, "-c", _THEIRS, place / "published.npz", place / "published_theirs.npz"]
    subprocess.run(command, check=True)
    differences = []
    with np.load(place / "published_theirs.npz") as archive:
        for one, other in pairs:
            ours = frechet_distance(
                *(
                    Gaussian(mean=found[name][0], covariance=found[name][1], frames=None)
                    for name in (one, other)
                )
            )
            differences.append(abs(ours / float(archive[f"{one}~{other}"]) - 1))
    print(f"| published statistics ({len(names)} read) | {len(pairs)} | {max(differences):.1e} | relative |")


if __name__ == "__main__":
    main()
