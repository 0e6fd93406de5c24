"""ONNX Runtime on an NVIDIA GPU, with CUDA or TensorRT.

The transforms are inside the graph, so that only waveforms cross the bus. Inputs and outputs live
in buffers on the device that are kept from call to call.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime as ort

from stemwright.core.arrays import FloatArray
from stemwright.core.errors import DeviceError
from stemwright.models.manifest import Graph
from stemwright.models.sessions.runtimes.batching import in_own_types
from stemwright.models.sessions.runtimes.contract import SessionFacts
from stemwright.models.sessions.runtimes.onnxruntime import check_signature, create_session, translate_failure

_LOG = logging.getLogger(__name__)
LARGEST_BATCH = 16
# Share of the memory left after the first call that further items of a batch may take: the arena
# grows by whole blocks, and other programs use the card too. Chosen here.
_USABLE = 0.8

Providers = list[tuple[str, dict[str, str]]]


@dataclass(frozen=True, kw_only=True)
class GpuPlan:
    """How a graph is put on a card.

    Parameters
    ----------
    providers
        ONNX Runtime's providers with their options; the first one has to be in use afterwards.
    device_type, device_id
        Where the buffers are, in ONNX Runtime's words.
    probe
        Inputs of one call, to see how much memory it takes.
    free_memory
        Gives the card's free memory in bytes, or None if it cannot be told.
    """

    providers: Providers
    device_type: str
    device_id: int
    probe: Mapping[str, FloatArray]
    free_memory: Callable[[], int | None]


class GpuSession:
    """A graph on a card.

    Parameters
    ----------
    path
        ONNX file with a variable batch.
    graph
        Its signature.
    facts
        What is reported; the batch limit is set from the memory that a first call leaves.
    plan
        How it is put on the card.
    """

    def __init__(self, path: Path, graph: Graph, facts: SessionFacts, plan: GpuPlan) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = facts.threads
        self._session = create_session(path, options, plan.providers)
        wanted, used = plan.providers[0][0], self._session.get_providers()
        if wanted not in used:
            raise DeviceError(
                f"ONNX Runtime put the model on {used[0]} instead of {wanted}",
                "run stemwright doctor to see what is missing",
            )
        check_signature(path, graph, self._session)
        self._plan = plan
        self._buffers: dict[str, dict[tuple[int, ...], ort.OrtValue]] = {}
        self.graph = graph
        self.facts = replace(facts, batch_limit=self._fitting_batch() if graph.batch == "dynamic" else 1)

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run one batch; see Session.run."""
        arrays = in_own_types(self.graph, inputs)
        names = self.graph.output_names
        try:
            binding = self._session.io_binding()
            for name, array in arrays.items():
                binding.bind_ortvalue_input(name, self._on_device(name, array))
            for name in names:
                binding.bind_output(name, self._plan.device_type, self._plan.device_id)
            self._session.run_with_iobinding(binding)
            values = [np.array(value.numpy()) for value in binding.get_outputs()]
        except Exception as error:  # the runtime's errors share no base class
            self._buffers.clear()
            raise translate_failure(error) from error
        return dict(zip(names, values, strict=True))

    def close(self) -> None:
        """Free the card's memory."""
        self._buffers.clear()
        del self._session

    def _on_device(self, name: str, array: FloatArray) -> ort.OrtValue:
        kept = self._buffers.setdefault(name, {})
        buffer = kept.get(array.shape)
        if buffer is None:
            # One shape is in use, and at the end of a track once a smaller one.
            if len(kept) >= 2:
                kept.clear()
            buffer = ort.OrtValue.ortvalue_from_numpy(array, self._plan.device_type, self._plan.device_id)
            kept[array.shape] = buffer
        else:
            buffer.update_inplace(array)
        return buffer

    def _fitting_batch(self) -> int:
        before = self._plan.free_memory()
        self.run(self._plan.probe)
        after = self._plan.free_memory()
        if before is None or after is None:
            return 1
        limit = batch_for(before, after)
        _LOG.debug("free on the card: %d before, %d after one item; batch %d", before, after, limit)
        return limit


def batch_for(before: int, after: int) -> int:
    """Largest batch that should fit, from the card's free memory before and after a call with one item."""
    one = max(before - after, 1)
    return max(1, min(LARGEST_BATCH, 1 + int(_USABLE * after / one)))


def cuda_options(index: int) -> dict[str, str]:
    """Options of the CUDA provider: exact float32, memory as needed, no exhaustive search of kernels.

    Shapes are the same in every call, so that growing by what is asked for does not fragment, and
    a heuristic choice of convolutions avoids minutes of trials for each new batch size.
    """
    return {
        "device_id": str(index),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
    }


def tensorrt_options(
    index: int, *, cache: Path, shapes: Mapping[str, tuple[int, ...]], half: bool
) -> dict[str, str]:
    """Options of the TensorRT provider: engines kept in `cache`, any batch up to LARGEST_BATCH.

    `shapes` are those of one item of each input; none for engines that are built for what comes.
    """
    options = {
        "device_id": str(index),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(cache),
        "trt_fp16_enable": "1" if half else "0",
    }
    for end, batch in (("min", 1), ("opt", 4), ("max", LARGEST_BATCH)) if shapes else ():
        options[f"trt_profile_{end}_shapes"] = ",".join(
            f"{name}:{'x'.join(str(size) for size in (batch, *shape))}" for name, shape in shapes.items()
        )
    return options
