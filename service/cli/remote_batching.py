"""The work of `stemwright batch --server`."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from stemwright.core.errors import ModelNotFoundError, OptionError
from stemwright.models.query.queries import class_stems
from stemwright.models.separation.options import COMPLEMENT_PREFIX, RESIDUAL
from stemwright.service.batches import BatchPlan, Identity
from stemwright.service.cli.batching import BatchWork, Request, open_ledger, run_batch, show_plan
from stemwright.service.cli.options import Choices
from stemwright.service.client.synchronous import Client
from stemwright.service.client.views import ModelFacts
from stemwright.service.folders import Collection
from stemwright.service.remote import JOBS_FILE, JobNotes, RemoteWork
from stemwright.service.tracks import TrackOptions

_IN_FLIGHT = 8
# What the API calls `--remainder`.
_REMAINDER = {None: None, "subtract": "mixture", "network": "network"}


def separate_by_service(
    choices: Choices, request: Request, collection: Collection, options: TrackOptions
) -> int:
    """Have a folder separated by a service; return the exit code.

    Raises
    ------
    StemwrightError
        What is wrong with the request as a whole, or the service does not answer.
    """
    asked = job_options(choices, options)
    with Client(request.server or "", key=request.key) as client:
        model = find_model(client.models(), choices)
        plan = BatchPlan(
            collection=collection,
            out=request.out,
            stems=stems_of(choices, model),
            options=options,
            identity=Identity(model_sha256=model.sha256 or model.version, settings_sha256=_digest(asked)),
            overwrite=request.overwrite,
        )
        if request.dry_run:
            return show_plan(plan, json_lines=choices.json_lines)
        with open_ledger(request) as ledger:
            work = RemoteWork(
                client=client,
                server=request.server or "",
                options=asked,
                identity=plan.identity,
                notes=JobNotes(request.out / JOBS_FILE),
            )
            batch = BatchWork(plan, work, request.workers or _IN_FLIGHT, request.scores(choices))
            return run_batch(batch, ledger, json_lines=choices.json_lines)


def job_options(choices: Choices, options: TrackOptions) -> dict[str, Any]:
    """Return what was chosen as the options of a job.

    Raises
    ------
    OptionError
        Something that only a separation on this machine has.
    """
    here = {
        "several --model": len(choices.models) > 1,
        "--weights": choices.weights is not None,
        "--device": choices.device != "auto",
        "--precision": choices.precision != "auto",
        "--threads": choices.threads is not None,
        "--low-memory": choices.low_memory,
        "--accept-licence": choices.accept_licence,
        "--query-audio": bool(choices.query_audio),
        "--auto": choices.auto,
    }
    for name, given in here.items():
        if given:
            raise OptionError(f"{name} does not go with --server", "leave it out")
    lossless = choices.container in ("wav", "flac")
    chosen: dict[str, Any] = {
        "model": choices.models[0],
        "stems": list(choices.stems) if choices.stems is not None else None,
        "two_stems": choices.two_stems,
        "residual": choices.residual or None,
        "remainder": _REMAINDER[choices.remainder],
        "query": list(choices.queries) or None,
        "format": choices.container,
        "bit_depth": options.fmt.bit_depth if lossless else None,
        "bitrate": choices.bitrate,
        "clip_mode": choices.clip_mode,
        "shifts": choices.shifts or None,
        "seed": choices.seed or None,
        "overlap": choices.overlap,
    }
    return {name: value for name, value in chosen.items() if value is not None}


def find_model(models: Sequence[ModelFacts], choices: Choices) -> ModelFacts:
    """Return the model that was chosen of those of the service.

    Raises
    ------
    ModelNotFoundError
        It has none of that name.
    OptionError
        It takes queries and there are none, or the other way round.
    """
    (name,) = choices.models
    for model in models:
        if model.name == name:
            if not model.stems and not choices.queries:
                raise OptionError(f"{name} separates what it is asked for", "ask with --query")
            if model.stems and choices.queries:
                raise OptionError(
                    f"{name} separates fixed stems and takes no queries",
                    f"its stems are {', '.join(model.stems)}; for queries use a model that takes them",
                )
            return model
    there = ", ".join(model.name for model in models) or "none"
    raise ModelNotFoundError(f"the service has no model {name!r}", f"its models are: {there}")


def stems_of(choices: Choices, model: ModelFacts) -> tuple[str, ...]:
    """Return the stems that a job of these options makes, in order.

    Raises
    ------
    OptionError
        The model lacks one that was asked for, or a query means nothing.
    """
    offered = class_stems(choices.queries) if choices.queries else model.stems
    wanted = choices.stems or ((choices.two_stems,) if choices.two_stems else offered)
    for stem in wanted:
        if stem not in offered:
            raise OptionError(f"there is no stem {stem!r}", f"the stems are {', '.join(offered)}")
    if choices.two_stems is not None:
        return (choices.two_stems, COMPLEMENT_PREFIX + choices.two_stems)
    return (*wanted, RESIDUAL) if choices.residual else tuple(wanted)


def _digest(options: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()
