"""From a configuration to batches of examples on their way to the network."""

from collections.abc import Generator
from dataclasses import dataclass

from stemwright.core.errors import InputError, OptionError
from stemwright.training.augmentation.batch import augmented
from stemwright.training.config import TrainConfig
from stemwright.training.data.batches import Batch, batches
from stemwright.training.data.examples import Source
from stemwright.training.devices import Place
from stemwright.training.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the examples of a run come from.

    train
        Of training.
    valid
        Held-out items; None: nothing is validated.
    """

    train: Source
    valid: Source | None = None


def open_sources(config: TrainConfig, task: Task) -> Sources:
    """Open the data that a configuration names.

    Raises
    ------
    OptionError
        It names none, or what the data does not have.
    InputError
        The data cannot be read.
    """
    data = config.data
    if not data.train:
        raise OptionError("the configuration names no data", "add a table [data.train]; see docs/training.md")

    from stemwright.training.data.opening import open_source  # its kinds of data need more than the loop

    def opened(settings: dict[str, object], seconds: float) -> Source:
        return open_source(
            settings,
            sample_rate=task.sample_rate,
            channels=task.channels,
            samples=task.segment_samples(seconds),
            batch=config.loop.batch,
            stems=task.stems if task.kind == "stems" else None,
        )

    train = opened(data.train, data.segment_s)
    valid = opened(data.valid, data.valid_segment_s or data.segment_s) if data.valid else None
    return Sources(train=train, valid=valid)


def check_sources(sources: Sources, task: Task) -> None:
    """Raise InputError if data does not fit the network that it is for."""
    for source in (sources.train, sources.valid):
        if source is None:
            continue
        if source.sample_rate != task.sample_rate:
            raise InputError(
                f"the data is at {source.sample_rate} Hz, the network works at {task.sample_rate}",
                "give a data folder, or a pack that was made for this rate",
            )
        fitting = len(source.names) == len(task.stems)
        if not fitting or (task.kind == "stems" and tuple(source.names) != task.stems):
            raise InputError(
                f"the data has {', '.join(source.names)}, the network gives {', '.join(task.stems)}",
                "name them in this order: targets in data.train and data.valid, or model.stems",
            )


def feed(config: TrainConfig, source: Source, start: int, place: Place) -> Generator[Batch]:
    """Give this process's part of the batches from step `start` on, on its device, augmented."""
    from stemwright.training.data.opening import augmentation_of

    loop = config.loop
    share = place.share(loop.batch)
    rules = augmentation_of(config.data.train, source.sample_rate)
    for batch in batches(
        source,
        seed=loop.seed,
        batch_size=share,
        start_step=start,
        first_index=place.rank * share,
        workers=loop.workers,
        pin=place.device.type == "cuda",
    ):
        moved = batch.to(place.device)
        yield moved if rules is None else augmented(moved, rules, seed=loop.seed, rank=place.rank)
