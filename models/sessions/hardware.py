"""What of the machine this process may use: cores, instructions, memory."""

import math
import os
from pathlib import Path

_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


def usable_cores(root: Path = Path("/")) -> int:
    """Physical cores that affinity and control groups leave to this process, at least 1.

    Two hardware threads of one core count once: the network's kernels fill a core alone.

    Parameters
    ----------
    root
        Where /sys and /proc lie; another folder in tests.
    """
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    if allowed is None:
        return max(1, os.cpu_count() or 1)
    cores = {_core_of(cpu, root) for cpu in allowed}
    quota = _cgroup_cpus(root)
    count = len(cores) if quota is None else min(len(cores), math.ceil(quota))
    return max(1, count)


def has_bfloat16(root: Path = Path("/")) -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (AVX-512 BF16 or AMX)."""
    return bool(cpu_flags(root) & _BFLOAT16_FLAGS)


def cpu_flags(root: Path = Path("/")) -> frozenset[str]:
    """Instruction set flags from /proc/cpuinfo; empty where there is none."""
    text = _read(root / "proc/cpuinfo")
    for line in (text or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that can still be allocated: free memory or what the control group leaves, if known."""
    limits = [limit for limit in (_system_memory(root), _cgroup_memory(root)) if limit is not None]
    return min(limits) if limits else None


def _core_of(cpu: int, root: Path) -> tuple[str, str]:
    topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    package, core = _read(topology / "physical_package_id"), _read(topology / "core_id")
    if package is None or core is None:
        return ("", str(cpu))
    return (package.strip(), core.strip())


def _cgroup_cpus(root: Path) -> float | None:
    quotas: list[float] = []
    for folder in _cgroup_folders(root, ""):
        quota, _, period = (_read(folder / "cpu.max") or "").partition(" ")
        if quota.isdigit() and period.strip().isdigit():
            quotas.append(int(quota) / int(period))
    for folder in _cgroup_folders(root, "cpu"):
        quota = (_read(folder / "cpu.cfs_quota_us") or "").strip()
        period = (_read(folder / "cpu.cfs_period_us") or "").strip()
        if quota.isdigit() and period.isdigit():
            quotas.append(int(quota) / int(period))
    return min(quotas) if quotas else None


def _cgroup_memory(root: Path) -> int | None:
    left: list[int] = []
    for controller, limit_file, used_file in (
        ("", "memory.max", "memory.current"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        for folder in _cgroup_folders(root, controller):
            limit = (_read(folder / limit_file) or "").strip()
            used = (_read(folder / used_file) or "").strip()
            if limit.isdigit() and used.isdigit() and int(limit) < 1 << 60:
                left.append(max(0, int(limit) - int(used)))
    return min(left) if left else None


def _system_memory(root: Path) -> int | None:
    for line in (_read(root / "proc/meminfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def _cgroup_folders(root: Path, controller: str) -> list[Path]:
    """Folders of this process's control group and its parents; controller "" is version 2."""
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if (controller in names.split(",")) if controller else names == "":
            top = root / "sys/fs/cgroup" / controller
            inner = top.joinpath(*[part for part in path.split("/") if part not in ("", "..")])
            # In a container the path is often the host's, which does not exist inside: the top stands for it.
            chain = [inner, *inner.parents]
            return [folder for folder in chain[: chain.index(top) + 1] if folder.is_dir()]
    return []


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None
