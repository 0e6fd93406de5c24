"""What a family has to say so that its networks can be trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from stemwright.training.data.batches import Batch
from stemwright.training.tasks.scoring import Kind


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The loss of a batch and, detached, what it is made of."""

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Task(Protocol):
    """A network, its loss, and how it separates; pure, so that the loop holds all state."""

    @property
    def family(self) -> str:
        """Name of the family."""

    @property
    def config(self) -> Any:
        """The family's configuration of the network, a frozen dataclass."""

    @property
    def stems(self) -> tuple[str, ...]:
        """Names of the outputs in order; of a network that is asked, one."""

    @property
    def kind(self) -> Kind:
        """How estimates are scored against targets."""

    @property
    def sample_rate(self) -> int:
        """In Hz."""

    @property
    def channels(self) -> int:
        """Of mixtures and stems."""

    def segment_samples(self, seconds: float) -> int:
        """Shortest length from `seconds` on that the network is trained on."""

    def network(self) -> nn.Module:
        """Make the network, its weights drawn from torch's generator."""

    def loss(self, net: Callable[..., Tensor], batch: Batch) -> Losses:
        """Loss of a batch; `net` is the network or what wraps it."""

    def separate(self, net: nn.Module, mixture: Tensor, condition: Tensor | None) -> Tensor:
        """Separate whole recordings the way the engine does.

        Parameters
        ----------
        net
            The network, in evaluation mode.
        mixture
            shape=(B, C, T), no longer than one window of the engine.
        condition
            shape=(B, D), of networks that are asked.

        Returns
        -------
        Tensor
            shape=(B, S, C, T).
        """
