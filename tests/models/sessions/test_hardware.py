"""Cores, instructions and memory, read from made-up /sys and /proc trees."""

import os
from pathlib import Path

import pytest

from stemwright.models.sessions.hardware import available_memory, cpu_flags, has_bfloat16, usable_cores


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def eight_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four cores of two hardware threads each."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for cpu in range(8):
        folder = f"sys/devices/system/cpu/cpu{cpu}/topology"
        write(tmp_path, {f"{folder}/physical_package_id": "0\n", f"{folder}/core_id": f"{cpu % 4}\n"})
    return tmp_path


def test_hardware_threads_of_a_core_count_once(eight_threads: Path) -> None:
    assert usable_cores(eight_threads) == 4


def test_affinity_counts(eight_threads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 4, 5})
    assert usable_cores(eight_threads) == 2


@pytest.mark.parametrize(("quota", "cores"), [("150000 100000", 2), ("max 100000", 4), ("10000 100000", 1)])
def test_quota_of_a_control_group(eight_threads: Path, quota: str, cores: int) -> None:
    write(eight_threads, {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": quota})
    write(eight_threads, {"sys/fs/cgroup/a/b/cpu.max": "max 100000"})
    assert usable_cores(eight_threads) == cores


def test_quota_inside_a_container_whose_path_is_the_hosts(eight_threads: Path) -> None:
    write(eight_threads, {"proc/self/cgroup": "0::/host/path\n", "sys/fs/cgroup/cpu.max": "200000 100000"})
    assert usable_cores(eight_threads) == 2


def test_quota_of_the_older_control_groups(eight_threads: Path) -> None:
    write(
        eight_threads,
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/x\n",
            "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "300000",
            "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000",
        },
    )
    assert usable_cores(eight_threads) == 3


def test_instructions(tmp_path: Path) -> None:
    write(tmp_path, {"proc/cpuinfo": "processor : 0\nflags\t\t: fpu avx512_bf16 avx512_vnni\n"})
    assert "avx512_vnni" in cpu_flags(tmp_path)
    assert has_bfloat16(tmp_path)
    assert not has_bfloat16(tmp_path / "elsewhere")


def test_memory_is_the_smaller_of_machine_and_group(tmp_path: Path) -> None:
    write(tmp_path, {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 4000 kB\n"})
    assert available_memory(tmp_path) == 4_096_000
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a\n",
            "sys/fs/cgroup/a/memory.max": "3000000",
            "sys/fs/cgroup/a/memory.current": "1000000",
        },
    )
    assert available_memory(tmp_path) == 2_000_000
    assert available_memory(tmp_path / "elsewhere") is None
