"""The job that the product exists for: index, align, sort, index, count, with real tools in real images."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.command import Workspace

pytestmark = [pytest.mark.docker, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
SAMTOOLS = "biocontainers/samtools:v1.9-4-deb_cv1"


def reads_dir() -> Path:
    """FASTA and FASTQ made by ``reads-up``; CI says where."""
    where = os.environ.get("REFLOW_TEST_READS")
    if not where:
        pytest.skip("REFLOW_TEST_READS does not name a directory made by reads-up")
    return Path(where)


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    source = reads_dir()
    shutil.copy(source / "ref.fa.gz", made.dir)
    shutil.copy(ROOT / "examples" / "align.rf", made.dir)
    (made.dir / "reads").mkdir()
    for mate in (1, 2):
        shutil.copy(source / f"reads_{mate}.fq.gz", made.dir / "reads" / f"one_{mate}.fq.gz")
        first_reads(source / f"reads_{mate}.fq.gz", made.dir / "reads" / f"two_{mate}.fq.gz", 2000)
    return made


def first_reads(source: Path, target: Path, count: int) -> None:
    """The first reads of a file."""
    with gzip.open(source, "rt") as lines, gzip.GzipFile(target, "wb", mtime=0) as out:
        for _, line in zip(range(4 * count), lines, strict=False):
            out.write(line.encode())


def run(work: Workspace, *more: str) -> dict[str, object]:
    words = ["run", "-executor", "docker", "-json", "-out", "result", "align.rf"]
    return work.reflow(*words, "-fasta", "ref.fa.gz", "-reads", "reads", *more, timeout_s=240).ok().json


def samtools(path: Path, *words: str) -> str:
    """What samtools says of a file, run in its image."""
    mount = f"type=bind,src={path.parent},dst=/data,readonly"
    argv = ["docker", "run", "--rm", "--mount", mount, SAMTOOLS, "samtools", *words, f"/data/{path.name}"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_reads_are_aligned_once_and_only_what_changed_runs_again(work: Workspace) -> None:
    first = run(work)
    assert (first["executed"], first["failed"]) == (9, 0)
    bam = work.dir / "result" / "one" / "bam"
    stats = (work.dir / "result" / "one" / "stats").read_text()
    mapped = re.search(r"mapped \(([\d.]+)%", stats)
    assert mapped, stats
    assert float(mapped[1]) >= 99
    assert "SO:coordinate" in samtools(bam, "view", "-H")
    assert (work.dir / "result" / "one" / "bai").stat().st_size > 0

    again = run(work)
    assert (again["executed"], again["result"]) == (0, first["result"])

    for mate in (1, 2):
        first_reads(reads_dir() / f"reads_{mate}.fq.gz", work.dir / "reads" / f"two_{mate}.fq.gz", 1000)
    changed = run(work)
    assert changed["executed"] == 4, "only the pair whose reads are new is aligned"


def test_more_cpus_than_there_are_end_with_what_would_fit(work: Workspace) -> None:
    done = work.reflow(
        *(
            "run",
            "-executor",
            "docker",
            "align.rf",
            "-fasta",
            "ref.fa.gz",
            "-reads",
            "reads",
            "-threads",
            "1024",
        )
    )
    done.failed("required resource", "greater than available", "align.Align")
