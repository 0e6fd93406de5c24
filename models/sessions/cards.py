"""NVIDIA cards and their memory, as the driver tells of them."""

import subprocess
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GpuMemory:
    """Name and memory (bytes) of one card."""

    name: str
    total: int
    free: int


def gpu_memory() -> tuple[GpuMemory, ...]:
    """Cards that the NVIDIA driver tells of, in the driver's order; empty without a driver."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpu_memory(done.stdout)


def free_gpu_memory(index: int) -> int | None:
    """Free bytes on one card, or None if the driver does not tell."""
    cards = gpu_memory()
    return cards[index].free if index < len(cards) else None


def parse_gpu_memory(text: str) -> tuple[GpuMemory, ...]:
    """Read nvidia-smi's comma separated lines of name, total MiB and free MiB."""
    cards: list[GpuMemory] = []
    for line in text.strip().splitlines():
        name, total, free = (part.strip() for part in line.rsplit(",", 2))
        if total.isdigit() and free.isdigit():
            cards.append(GpuMemory(name=name, total=int(total) << 20, free=int(free) << 20))
    return tuple(cards)
