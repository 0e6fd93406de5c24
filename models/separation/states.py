"""Calls that hand a state from one to the next: in order within a lane, lanes side by side."""

import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Executor, Future

import numpy as np

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import InternalError
from stemwright.models.manifest import Graph
from stemwright.models.separation.members import Member
from stemwright.models.separation.pipeline import Flow, Stopped


def initial_state(graph: Graph) -> dict[str, FloatArray]:
    """State that the first call is given, by the names of the graph's inputs."""
    return {
        tensor.input: np.full(tensor.shape, tensor.initial, np.dtype(tensor.dtype)) for tensor in graph.state
    }


def split_state(
    graph: Graph, outputs: Mapping[str, FloatArray]
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Part a call's outputs into those that are sound and the next call's state, by its inputs' names.

    Raises
    ------
    InternalError
        The state holds values that are not finite.
    """
    state = {tensor.input: outputs[tensor.output] for tensor in graph.state}
    for name, array in state.items():
        if not np.isfinite(array).all():
            raise InternalError(f"state {name} is not finite any more", "try --precision float32")
    return {port.name: outputs[port.name] for port in graph.outputs}, state


class StateChain:
    """Runs the calls of one lane one after another, each with the state that the last one gave.

    A call takes no thread while it waits for the one before, so that other lanes run meanwhile.

    Parameters
    ----------
    member
        The model.
    executor
        Runs the calls.
    flow
        The separation; no call begins after it was stopped.
    """

    def __init__(self, member: Member, executor: Executor, flow: Flow) -> None:
        self._member = member
        self._executor = executor
        self._flow = flow
        self._state = initial_state(member.graph)
        self._waiting: deque[tuple[Mapping[str, FloatArray], Future[dict[str, FloatArray]]]] = deque()
        self._failure: BaseException | None = None
        self._lock = threading.Lock()

    def submit(self, inputs: Mapping[str, FloatArray]) -> "Future[dict[str, FloatArray]]":
        """Queue a call; the result holds the outputs without the state, or what the first failure raised."""
        future: Future[dict[str, FloatArray]] = Future()
        with self._lock:
            self._waiting.append((inputs, future))
            if self._failure is not None:
                self._give_up(self._failure)
            elif len(self._waiting) == 1:
                self._start()
        return future

    def _start(self) -> None:
        """Let the executor run the first call that waits; call with the lock held."""
        try:
            self._executor.submit(self._step)
        except RuntimeError:  # shut down: the separator was closed, and nobody waits any more
            self._give_up(Stopped())

    def _step(self) -> None:
        inputs, future = self._waiting[0]
        try:
            self._flow.check()
            outputs, self._state = split_state(
                self._member.graph, self._member.run_with_state({**inputs, **self._state})
            )
        except BaseException as error:  # the stage that waits for the result raises it
            with self._lock:
                self._give_up(error)
            return
        future.set_result(outputs)
        with self._lock:
            self._waiting.popleft()
            if self._waiting:
                self._start()

    def _give_up(self, failure: BaseException) -> None:
        """Fail all calls that wait and that may come: without its state none can run."""
        self._failure = failure
        while self._waiting:
            self._waiting.popleft()[1].set_exception(failure)
