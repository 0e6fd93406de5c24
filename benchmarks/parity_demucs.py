"""Float32 stems beside those of demucs.api.Separator, with the same weights, on songs with true stems.

    python benchmarks/parity_demucs.py FOLDER... --device cpu --device openvino

Each FOLDER holds `mixture.*` and the true stems. Prints, for every device and song, the error of each
stem against demucs' (shifts 0, overlap 0.25, whole-track normalisation) in dB relative to the mixture,
and both SDRs against the true stem. Ends with 1 if an error is above -75 dB or two SDRs differ by more
than 0.01 dB. Needs the demucs package, and the model installed (`stemwright models pull htdemucs`).
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from demucs.api import Separator as Peer
from demucs_checkpoint import SIGNATURE, write_checkpoint
from songs import RATE, Audio, Song, decibels, read_song, row, sdr

from stemwright.core.audio.source import ArraySource
from stemwright.models.registry.store import InstalledModel, ModelStore, open_model
from stemwright.models.separation.separator import Separator
from stemwright.models.sessions.opening import SessionOptions

LARGEST_ERROR_DB = -75.0
LARGEST_SDR_CHANGE_DB = 0.01


def main() -> None:
    """Compare on every song and device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("songs", nargs="+", type=Path)
    parser.add_argument("--device", action="append", help="may be repeated; default: cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--model", default="htdemucs")
    arguments = parser.parse_args()
    model = open_model(arguments.model, ModelStore())
    if not isinstance(model, InstalledModel):
        sys.exit(f"{arguments.model} is a bag; name a single model")
    songs = [read_song(path) for path in arguments.songs]
    theirs = peer_stems(model, songs)
    kept = True
    for device in arguments.device or ["cpu"]:
        options = SessionOptions(device=device, precision=arguments.precision)
        with Separator.open(model, options=options) as separator:
            for song in songs:
                ours = separate(separator, song.mixture)
                kept &= compare(f"{device} {arguments.precision}", song, ours, theirs[song.name])
    sys.exit(0 if kept else 1)


def peer_stems(model: InstalledModel, songs: list[Song]) -> dict[str, dict[str, Audio]]:
    """Stems of every song by the demucs package."""
    with tempfile.TemporaryDirectory(prefix="parity-demucs-") as folder:
        repo = Path(folder) / "repo"
        write_checkpoint(model, repo)
        peer = Peer(model=SIGNATURE, repo=repo, shifts=0, overlap=0.25, device="cpu")
        stems: dict[str, dict[str, Audio]] = {}
        for song in songs:
            _, found = peer.separate_tensor(torch.from_numpy(song.mixture), RATE)
            stems[song.name] = {name: stem.numpy() for name, stem in found.items()}
        return stems


def separate(separator: Separator, mixture: Audio) -> dict[str, Audio]:
    """All stems of a song in memory."""
    blocks: dict[str, list[Audio]] = {name: [] for name in separator.stems}
    with separator.separate(ArraySource(mixture, RATE)) as separation:
        for block in separation:
            for name, samples in block.stems.items():
                blocks[name].append(samples)
    return {name: np.concatenate(parts, axis=1) for name, parts in blocks.items()}


def compare(label: str, song: Song, ours: dict[str, Audio], theirs: dict[str, Audio]) -> bool:
    """Print the figures of a song; tell whether they are within the bounds."""
    names = list(ours)
    power = float(np.sum(song.mixture.astype(np.float64) ** 2))
    errors = [decibels(float(np.sum((ours[n].astype(np.float64) - theirs[n]) ** 2)), power) for n in names]
    print(f"\n{song.name}")
    print(row(f"{label}: error, dB", names, errors, 1))
    known = [name for name in names if name in song.stems and np.any(song.stems[name])]
    own, peer = ([sdr(song.stems[n], stems[n]) for n in known] for stems in (ours, theirs))
    print(row("SDR", known, own, 3))
    print(row("SDR of demucs", known, peer, 3), flush=True)
    change = max((abs(a - b) for a, b in zip(own, peer, strict=True)), default=0.0)
    return max(errors) <= LARGEST_ERROR_DB and change <= LARGEST_SDR_CHANGE_DB


if __name__ == "__main__":
    main()
