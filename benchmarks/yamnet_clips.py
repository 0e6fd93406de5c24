"""Labels and scores of the shipped YAMNet beside the TensorFlow Lite file, over a folder of labelled clips.

    python benchmarks/yamnet_clips.py YAMNET.tflite FOLDER

FOLDER has labels.csv (columns file, label) and the clips; labels are those of ESC-10. Each clip is heard in
whole patches of 0.975 s every 0.48 s, and its score is the mean. `ours, same features` gives our network the
features that the file's own front end computed.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from stemwright.core.audio.resample import Resampler
from stemwright.core.audio.source import open_source
from stemwright.core.features import Features
from stemwright.models.query.ontology import audioset
from stemwright.models.registry.store import open_tagger
from stemwright.models.sessions.devices import choose_device
from stemwright.models.sessions.plain_graphs import PlainGraph, open_plain_graph

Scores = NDArray[np.float32]
FIRST, HOP = 15_600, 7_680
PATCH, SCORES = 84, 114  # tensors of the file
RIGHT = {
    "dog_bark": ("Bark", "Dog", "Animal", "Domestic animals, pets"),
    "rain": ("Rain", "Raindrop", "Rain on surface"),
    "sea_waves": ("Waves, surf", "Ocean"),
    "baby_cry": ("Baby cry, infant cry", "Crying, sobbing"),
    "clock_tick": ("Tick", "Tick-tock", "Clock"),
    "person_sneeze": ("Sneeze",),
    "helicopter": ("Helicopter",),
    "chainsaw": ("Chainsaw",),
    "rooster": ("Crowing, cock-a-doodle-doo", "Chicken, rooster", "Fowl"),
    "fire_crackling": ("Fire", "Crackle"),
}


def sound_of(path: Path) -> Scores:
    """Return a clip at 16 kHz, shape=(n,)."""
    with open_source(path) as source:
        resampler = Resampler(source.info.sample_rate, 16_000, 1)
        parts = [resampler.push(block.mean(axis=0, keepdims=True)) for block in source.blocks()]
        return np.asarray(np.concatenate([*parts, resampler.flush()], axis=1)[0], np.float32)


def run_file(runtime: Interpreter, sound: Scores, tensors: tuple[int, ...]) -> list[Scores]:
    """Return tensors of the file, for all patches of a clip."""
    found: list[list[Scores]] = [[] for _ in tensors]
    for start in range(0, len(sound) - FIRST + 1, HOP):
        runtime.set_tensor(0, sound[start : start + FIRST])
        runtime.invoke()
        for tensor, kept in zip(tensors, found, strict=True):
            kept.append(runtime.get_tensor(tensor)[0].copy())
    return [np.stack(kept) for kept in found]


def scores_of_clips(tflite: Path, clips: list[Path]) -> dict[str, list[Scores]]:
    """Return the scores of all patches of all clips, for each way of computing them."""
    builtin, default = (
        Interpreter(str(tflite), experimental_op_resolver_type=kind, experimental_preserve_all_tensors=keep)
        for kind, keep in (
            (OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, True),
            (OpResolverType.AUTO, False),
        )
    )
    for runtime in (builtin, default):
        runtime.allocate_tensors()
    tagger = open_tagger("yamnet")
    manifest = tagger.manifest
    graph = PlainGraph(
        path=tagger.graph_path, input=manifest.features, outputs=(manifest.probabilities,), threads=2
    )
    network = open_plain_graph(graph, choose_device("cpu"))
    features = Features(transform=manifest.transform, bands=manifest.bands, sample_rate=16_000)
    made: dict[str, list[Scores]] = {}
    for clip in clips:
        sound = sound_of(clip)
        theirs, patches = run_file(builtin, sound, (SCORES, PATCH))
        frames = features.compute(sound)
        ours = np.stack([frames[96 * k // 2 : 96 * k // 2 + 96] for k in range(len(theirs))])
        made.setdefault("file, builtin kernels", []).append(theirs)
        made.setdefault("file, default kernels", []).extend(run_file(default, sound, (SCORES,)))
        made.setdefault("ours", []).append(network.run(ours)[0])
        made.setdefault("ours, same features", []).append(network.run(patches[..., 0])[0])
    return made


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tflite", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    with (args.folder / "labels.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    names = [audioset()[mid].name for mid in open_tagger("yamnet").manifest.classes]
    made = scores_of_clips(args.tflite, [args.folder / row["file"] for row in rows])
    reference = made["file, builtin kernels"]
    print(f"{len(rows)} clips, {sum(map(len, reference))} patches")
    for name, clips in made.items():
        orders = [np.argsort(-scores.mean(axis=0)) for scores in clips]
        ranks = [
            [names[place] in RIGHT[row["label"]] for place in order]
            for order, row in zip(orders, rows, strict=True)
        ]
        same = sum(
            int(order[0] == other.mean(axis=0).argmax())
            for order, other in zip(orders, reference, strict=True)
        )
        patches = sum(
            int((a.argmax(axis=1) != b.argmax(axis=1)).sum()) for a, b in zip(clips, reference, strict=True)
        )
        gaps = np.abs(np.concatenate(clips) - np.concatenate(reference))
        spread = ", ".join(f"{value:.2g}" for value in np.percentile(gaps, [50, 99, 99.9, 100]))
        top1, top5 = sum(rank[0] for rank in ranks), sum(any(rank[:5]) for rank in ranks)
        print(f"{name}: top-1 {top1}, top-5 {top5}; same top-1 as the builtin kernels on {same} clips,")
        print(f"    another one in {patches} patches; differences median, p99, p99.9, max: {spread}")


if __name__ == "__main__":
    main()
