"""The work of `stemwright eval fad`."""

from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from stemwright.eval.embedding.distances import Gaussian, frechet_distance
from stemwright.eval.embedding.sets import (
    EmbeddedSet,
    Extrapolation,
    embed_set,
    extrapolated,
    read_statistics,
    recordings_in,
    statistics_key,
    write_statistics,
)
from stemwright.models.embedders.session import AudioEmbedder, embedder_session
from stemwright.models.sessions.runtimes.contract import SessionOptions
from stemwright.service.cli.output import print_json_line


@dataclass(frozen=True, kw_only=True)
class FadRequest:
    """What is compared; see `eval_fad.fad`."""

    embedder: str
    reference: Path
    estimate: Path
    files: str
    infinite: bool
    seed: int
    save: Path | None
    device: str
    as_json: bool


def compare_sets(request: FadRequest) -> None:
    """Embed both sets, and print their distance.

    Raises
    ------
    StemwrightError
        The embedder, a set or the statistics cannot be used.
    """
    embedder = embedder_session(request.embedder, SessionOptions(device=request.device))
    of_file = request.reference.is_file()
    true_paths = () if of_file else recordings_in(request.reference, request.files)
    found_paths = recordings_in(request.estimate, request.files)
    if of_file:
        reference = read_statistics(request.reference, embedder.facts)
    else:
        reference = _embedded(true_paths, embedder).gaussian
    found = _embedded(found_paths, embedder)
    distance = frechet_distance(reference, found.gaussian)
    limit = extrapolated(reference, found.frames, seed=request.seed) if request.infinite else None
    if request.save is not None:
        write_statistics(request.save, embedder.facts, reference)
    facts = embedder.facts
    typer.echo(f"terms of {facts.name}: {facts.licence.name}", err=True)
    if request.as_json:
        print_json_line(_as_data(request, embedder, reference, found, distance, limit))
    else:
        _print(embedder, reference, found, distance, limit)


def _embedded(paths: tuple[Path, ...], embedder: AudioEmbedder) -> EmbeddedSet:
    def note(done: int, path: Path) -> None:
        typer.echo(f"{done + 1}/{len(paths)} {path.name}", err=True)

    made = embed_set(paths, embedder, note)
    for path in made.skipped:
        typer.echo(f"{path} is too short for a frame and was left out", err=True)
    return made


def _print(
    embedder: AudioEmbedder,
    reference: Gaussian,
    found: EmbeddedSet,
    distance: float,
    limit: Extrapolation | None,
) -> None:
    known = "an unknown number of" if reference.frames is None else str(reference.frames)
    typer.echo(f"FAD ({embedder.facts.name}): {distance:.6g}")
    if limit is not None:
        typer.echo(f"FAD-inf: {limit.score:.6g} (r2 {limit.r2:.3f}, slope {limit.slope:.6g})")
    typer.echo(f"{found.gaussian.frames} frames of {found.files} files against {known} frames")


def _as_data(
    request: FadRequest,
    embedder: AudioEmbedder,
    reference: Gaussian,
    found: EmbeddedSet,
    distance: float,
    limit: Extrapolation | None,
) -> dict[str, object]:
    facts = embedder.facts
    return {
        "embedder": facts.name,
        "embedder_sha256": facts.sha256,
        "statistics_name": statistics_key(facts),
        "licence": facts.licence.name,
        "fad": distance,
        "reference": {"path": str(request.reference), "frames": reference.frames},
        "estimate": {
            "path": str(request.estimate),
            "frames": found.gaussian.frames,
            "files": found.files,
            "skipped": [str(path) for path in found.skipped],
        },
        "fad_inf": None if limit is None else asdict(limit),
    }
