"""Limits of control groups, as both versions write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reflow.disk.controlgroup import memory_limits, usable_cpus

GROUPS = "5:cpu,cpuacct:/batch/job\n4:memory:/batch/job\n3:pids:/other\n0::/user/me\n"


def here(tmp_path: Path, files: dict[str, str]) -> tuple[str, str]:
    """A file system of control groups, and a process's list of its own."""
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "own").write_text(GROUPS)
    return str(tmp_path / "fs"), str(tmp_path / "own")


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, 8),
        ({"user/me/cpu.max": "max 100000\n"}, 8),
        ({"user/me/cpu.max": "150000 100000\n"}, 2),
        ({"user/cpu.max": "300000 100000\n", "user/me/cpu.max": "max 100000\n"}, 3),
        ({"user/me/cpu.max": "5000 100000\n"}, 1),
        ({"cpu.max": "400000 100000\n"}, 4),
        ({"user/me/cpu.max": "nonsense\n", "cpu.max": "1 0\n"}, 8),
        ({"cpu/batch/cpu.cfs_quota_us": "-1\n", "cpu/batch/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/batch/job/cpu.cfs_quota_us": "250000\n", "cpu/batch/job/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/batch/job/cpu.cfs_quota_us": "250000\n"}, 8),
        ({"cpu/other/cpu.cfs_quota_us": "100000\n", "cpu/other/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cpus: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert usable_cpus(*here(tmp_path, files)) == cpus


def test_a_quota_beyond_the_processors_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert usable_cpus(*here(tmp_path, {"cpu.max": "400000 100000\n"})) == 1


def test_limits_of_memory_are_those_of_all_groups_above(tmp_path: Path) -> None:
    files = {
        "memory/batch/job/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/batch/memory.limit_in_bytes": "4096\n",
        "user/me/memory.max": "max\n",
        "user/memory.max": "8192\n",
        "memory/other/memory.limit_in_bytes": "1\n",
    }
    assert sorted(memory_limits(*here(tmp_path, files))) == [4096, 8192, 9223372036854771712]
    assert memory_limits(str(tmp_path / "none"), str(tmp_path / "none")) == []
