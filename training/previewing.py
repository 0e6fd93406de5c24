"""What a configuration's run would hear, to be looked at before it costs anything."""

from pathlib import Path

from stemwright.training.augmentation.batch import augmented
from stemwright.training.config import TrainConfig
from stemwright.training.data.batches import Batch, make_batch
from stemwright.training.data.examples import Example, Source
from stemwright.training.data.opening import augmentation_of
from stemwright.training.data.preview import write_preview
from stemwright.training.feeding import open_sources
from stemwright.training.tasks import task_of


class AsTrained:
    """Examples of a configuration's training, augmented as in the run's first step.

    Parameters
    ----------
    config
        The run's.
    source
        Its training data.
    """

    def __init__(self, config: TrainConfig, source: Source) -> None:
        self._config = config
        self._source = source
        self._batch: Batch | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What the targets are called."""
        return self._source.names

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self._source.sample_rate

    def example(self, seed: int, step: int, index: int) -> Example:
        """Return an example of a step's batch, which is made as a whole: augmentation remixes it."""
        if self._batch is None or self._batch.step != step:
            made = make_batch(self._source, seed, step, self._config.loop.batch)
            rules = augmentation_of(self._config.data.train, self._source.sample_rate)
            self._batch = made if rules is None else augmented(made, rules, seed=seed)
        batch = self._batch
        return Example(
            mixture=batch.mixture[index].numpy(),
            targets=batch.targets[index].numpy(),
            condition=None if batch.condition is None else batch.condition[index].numpy(),
        )


def preview_run(config: TrainConfig, page: Path, *, count: int) -> None:
    """Write a page of the first examples of a run; its data is packed if it is not.

    Raises
    ------
    OptionError, InputError, ResourceError
        As for a run.
    OutputError
        The page cannot be written.
    """
    source = AsTrained(config, open_sources(config, task_of(config)).train)
    count = min(count, config.loop.batch)
    write_preview(source, page, title=config.name, count=count, seed=config.loop.seed)
