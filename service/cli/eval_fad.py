"""`stemwright eval fad`: options; the work is in eval_fad_set.py."""

from pathlib import Path
from typing import Annotated

import typer


def fad(
    embedder: Annotated[str, typer.Option("--embedder", metavar="NAME", help="An embedder, or yamnet.")],
    reference: Annotated[
        Path,
        typer.Option(
            "--reference",
            metavar="DIR|STATS.npz",
            help="Good recordings, or their statistics in fadtk's form.",
        ),
    ],
    estimate: Annotated[
        Path, typer.Option("--estimate", metavar="DIR", help="Folder of the recordings to judge.")
    ],
    files: Annotated[
        str, typer.Option("--files", metavar="PATTERN", help="Only files of such names: 'vocals.*'.")
    ] = "*",
    infinite: Annotated[
        bool, typer.Option("--inf", help="FAD-inf besides: what it leads to with more and more frames.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draws of FAD-inf.")] = 0,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", help="Keep the statistics of the reference as an .npz."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, openvino or cuda.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> int:
    """Compare two sets of recordings as a whole: the Fréchet audio distance of their embeddings.

    Every frame of every file below the folders counts, in sub-folders too; the sets need not be of the same
    songs. The distance depends on the number of frames, which is printed: compare sets of about equal size,
    or give `--inf`. Published statistics fit only the embedder that they were made with.
    """
    from stemwright.service.cli.eval_fad_set import FadRequest, compare_sets

    compare_sets(
        FadRequest(
            embedder=embedder,
            reference=reference,
            estimate=estimate,
            files=files,
            infinite=infinite,
            seed=seed,
            save=save,
            device=device,
            as_json=as_json,
        )
    )
    return 0
