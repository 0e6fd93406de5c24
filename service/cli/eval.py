"""`stemwright eval`: how good stems are."""

from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.callback()
def evaluate() -> None:
    """Score stems against references."""


@app.command()
def score(
    reference: Annotated[
        Path, typer.Option("--reference", metavar="DIR", help="Folder of the true stems, one file each.")
    ],
    estimate: Annotated[
        Path,
        typer.Option("--estimate", metavar="DIR", help="Folder of the stems to score, by the same names."),
    ],
    stems: Annotated[
        list[str] | None, typer.Option("--stem", metavar="STEM", help="Score only this stem; repeatable.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Do as museval does also where its equations are singular.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write all frames as museval's JSON.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a FILE that exists.")] = False,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Frames scored at a time.")] = 2,
) -> int:
    """Score stems by BSS Eval 4: SDR, ISR, SIR and SAR of stereo images in frames of 1 s.

    Files are paired by name: `vocals.wav` with `vocals.flac`. The table gives medians over the frames;
    a frame in which any reference or estimate is silent counts for none of the stems. Values are those
    of museval 0.4.1, but for SIR and SAR where the references lack bandwidth (music from MP3 or AAC):
    there its equations are singular and its values meaningless, unless `--exact` asks for them.
    """
    from stemwright.eval.bss_eval.images import ImagesOptions, score_images
    from stemwright.eval.museval_files import museval_json
    from stemwright.eval.stem_folders import open_stem_folders
    from stemwright.service.cli.score_table import print_scores
    from stemwright.service.staging import Staging, refuse_existing

    if out is not None and not overwrite:
        refuse_existing(out.parent, [PurePosixPath(out.name)])
    pairs = open_stem_folders(reference, estimate, tuple(stems) if stems else None)
    scores = score_images(pairs, ImagesOptions(exact=exact, threads=threads))
    if out is not None:
        file = PurePosixPath(out.name)
        with Staging(out.parent, out.stem) as staging:
            staging.path(file).write_text(museval_json(scores), encoding="utf-8")
            staging.publish([file], replace=overwrite)
    print_scores(scores)
    return 0
