"""Sets of digests on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.disk import digestbins
from reflow.disk.digestbins import BINS, DigestBins


@pytest.mark.parametrize("buffered", [100, 1 << 20])
def test_the_highest_mark_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffered: int) -> None:
    monkeypatch.setattr(digestbins, "BUFFERED_BYTES", buffered)
    bins = DigestBins(str(tmp_path / "bins"))
    digests = [Digest.of(b"%d" % number) for number in range(500)]
    for start in range(0, 500, 7):
        bins.add(digests[start : start + 7], 2)
    bins.add(digests[:100], 3)
    bins.add(digests[50:200], 1)
    found = {digest: mark for number in range(BINS) for digest, mark in bins.load(number).items()}
    assert found == {digest: 3 if n < 100 else 2 for n, digest in enumerate(digests)}
    assert all(digest[0] == 7 for digest in bins.load(7))
    assert bool(list((tmp_path / "bins").iterdir())) is (buffered == 100)


def test_what_an_earlier_one_left_is_gone(tmp_path: Path) -> None:
    (tmp_path / "00").write_bytes(b"x" * 33)
    assert DigestBins(str(tmp_path)).load(0) == {}


def test_a_disk_that_takes_nothing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digestbins, "BUFFERED_BYTES", 1)
    bins = DigestBins(str(tmp_path / "bins"))
    (tmp_path / "bins").rmdir()
    with pytest.raises(ReflowError, match="bins"):
        bins.add([Digest.of(b"a")], 1)
