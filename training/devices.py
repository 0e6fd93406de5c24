"""Where a run computes, in which precision, and with which other processes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from stemwright.core.errors import DeviceError, OptionError
from stemwright.training.config import PrecisionChoice


@dataclass(frozen=True, kw_only=True)
class Place:
    """One process of a run.

    Attributes
    ----------
    device
        Where its network is.
    rank, world
        Its number, and how many there are; those of torchrun.
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process validates, logs and writes checkpoints."""
        return self.rank == 0

    def share(self, batch: int) -> int:
        """Examples of a batch that this process computes; raises OptionError if they cannot be shared."""
        if batch % self.world:
            raise OptionError(
                f"a batch of {batch} cannot be shared by {self.world} processes",
                "set loop.batch to a whole multiple",
            )
        return batch // self.world

    def wrap(self, net: nn.Module) -> nn.Module:
        """Let the processes share their gradients."""
        if self.world == 1:
            return net
        if self.device.type == "cuda":
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
            return DistributedDataParallel(net, device_ids=[self.device], find_unused_parameters=True)
        return DistributedDataParallel(net, find_unused_parameters=True)

    def agree(self, *values: float) -> tuple[float, ...]:
        """Return the first process's values in all of them."""
        if self.world == 1:
            return values
        shared = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.broadcast(shared, src=0)
        return tuple(float(value) for value in shared.tolist())

    def least(self, value: Tensor) -> Tensor:
        """Return the least of a value over the processes."""
        if self.world > 1:
            value = value.clone()
            distributed.all_reduce(value, distributed.ReduceOp.MIN)
        return value

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a value over the processes."""
        if self.world > 1:
            value = value / self.world
            distributed.all_reduce(value)
        return value


@contextmanager
def joined_processes() -> Iterator[Place]:
    """Join the processes that torchrun started; without it there is one.

    Raises
    ------
    DeviceError
        More processes on this machine than it has GPUs.
    """
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    gpus = torch.cuda.device_count()
    if gpus and local >= gpus:
        raise DeviceError(f"there are {gpus} GPUs for process {local}", "start torchrun with fewer processes")
    device = torch.device("cuda", local) if gpus else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world == 1:
        yield Place(device=device)
        return
    distributed.init_process_group("nccl" if gpus else "gloo")
    try:
        yield Place(device=device, rank=distributed.get_rank(), world=distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def compute_type(choice: PrecisionChoice, device: torch.device) -> torch.dtype:
    """Return the type that products are computed in.

    Raises
    ------
    DeviceError
        bfloat16 was asked for, and the GPU does not have it.
    """
    able = (
        torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else cpu_has_bf16()
    )
    if choice == "float32" or (choice == "auto" and not able):
        return torch.float32
    if device.type == "cuda" and not able:
        raise DeviceError("this GPU does not compute in bfloat16", "set loop.precision to auto or float32")
    return torch.bfloat16


def cpu_has_bf16() -> bool:
    """Tell whether this CPU multiplies in bfloat16, by AVX-512 or AMX."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
