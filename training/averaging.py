"""Averages of the weights over the steps, which often separate better than the last ones."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


class WeightAverage:
    """Exponential moving average of a network's parameters and buffers.

    Parameters
    ----------
    net
        The network, which it goes on to look at; the average begins with its weights.
    decay
        Share of the old average that is kept at each step. The first steps keep less, (1 + n) / (10 + n), so
        that the initial weights are soon forgotten.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        own = net.state_dict()  # views of the tensors that the steps change in place
        self.tensors = {name: tensor.detach().clone() for name, tensor in own.items()}
        pairs = [(self.tensors[name], tensor) for name, tensor in own.items()]
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._others = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network's weights after a step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages, weights = ([pair[side] for pair in self._floats] for side in (0, 1))
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for count, own in self._others:
            count.copy_(own)

    def state_dict(self) -> dict[str, object]:
        """Everything that a checkpoint needs."""
        return {"updates": self.updates, "tensors": self.tensors}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Restore what `state_dict` gave."""
        updates, tensors = state["updates"], state["tensors"]
        if not isinstance(updates, int) or not isinstance(tensors, dict):
            raise ValueError("not the state of an average")
        self.updates = updates
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])


@contextmanager
def averaged(net: nn.Module, average: WeightAverage | None) -> Iterator[nn.Module]:
    """Give the network, in evaluation mode, its averaged weights for a while."""
    own = None
    if average is not None:
        own = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
        net.load_state_dict(average.tensors)
    net.eval()
    try:
        yield net
    finally:
        if own is not None:
            net.load_state_dict(own)
        net.train()
