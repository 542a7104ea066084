"""Memory does not grow with the stores: the smaller sister of ``bench/collect.py``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "collect.py"


@pytest.mark.slow
def test_many_more_entries_take_little_more_memory(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("bench_collect", BENCH)
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    peaks = []
    for entries in (3_000, 24_000):
        directory = tmp_path / str(entries)
        directory.mkdir()
        objects = bench.make_objects(str(directory), entries // 2)
        done = bench.measured("collect", str(directory), entries, 100)  # which checks what is left
        assert done["removed"] == objects / 2
        peaks.append(done["peak_mb"])
    assert peaks[1] < peaks[0] * 1.35, peaks
