"""A session around a torch module, for models whose graphs are not what is tested."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from stemwright.core.arrays import FloatArray
from stemwright.models.manifest import Graph
from stemwright.models.sessions.opening import SessionFacts


@dataclass(frozen=True, kw_only=True)
class TorchSession:
    """Runs a module whose arguments and single result are the graph's inputs and output, in order."""

    module: torch.nn.Module
    graph: Graph

    @property
    def facts(self) -> SessionFacts:
        return SessionFacts(
            provider="cpu",
            device="cpu",
            runtime="torch",
            precision="float32",
            threads=1,
            parallel_calls=1,
            batch_limit=4,
            chosen_because="a test",
        )

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        given = [torch.from_numpy(np.ascontiguousarray(inputs[port.name])) for port in self.graph.inputs]
        with torch.no_grad():
            result: FloatArray = self.module(*given).numpy()
        return {self.graph.outputs[0].name: result}

    def close(self) -> None:
        return
