"""A search guided by coverage; run by hand, needs ``pip install atheris`` (Linux).

    python tests/fuzz/guided.py DIRECTORY -max_total_time=600 -timeout=10 -rss_limit_mb=1024

DIRECTORY keeps the inputs that reach something new. The first byte of an input says what the rest is: a text
for the parser, a program, or the decisions that make a typed one. What fails is written to the working
directory; ``python tests/fuzz/guided.py FILE`` repeats it. Make it small, and keep it in ``tests/data/fuzz``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["reflow.lang", "reflow.flow"]):
    from tests.fuzz.invariants import check_text, outcome_of_program
    from tests.fuzz.programs import ProgramWriter


class ProvidedChoices:
    """Decisions that come from bytes."""

    def __init__(self, data: bytes) -> None:
        self._provider = atheris.FuzzedDataProvider(data)

    def number(self, low: int, high: int) -> int:
        """A number between two, both included."""
        return int(self._provider.ConsumeIntInRange(low, high))


def test_one(data: bytes) -> None:
    """Try an input."""
    kind, rest = data[:1], data[1:]
    if kind < b"\x60":
        check_text(rest.decode("utf-8", "surrogateescape"))
    elif kind < b"\xc0":
        outcome_of_program({"main.rf": rest})
    else:
        files = ProgramWriter(ProvidedChoices(rest), depth=2).program()
        if sum(map(len, files.values())) < 20_000:
            outcome_of_program({name: text.encode() for name, text in files.items()})


def seed(directory: Path) -> None:
    """Put programs of ours into an empty directory."""
    directory.mkdir(exist_ok=True)
    if any(directory.iterdir()):
        return
    for path in [*ROOT.glob("tests/data/**/*.rf"), *ROOT.glob("examples/*.rf"), *ROOT.glob("reflow/**/*.rf")]:
        for kind in (b"0", b"p"):
            (directory / f"{path.stem}-{kind.decode()}").write_bytes(kind + path.read_bytes())


if __name__ == "__main__":
    sys.setrecursionlimit(10_000)
    for word in sys.argv[1:]:
        if not word.startswith("-") and not Path(word).is_file():
            seed(Path(word))
    atheris.Setup(sys.argv, test_one)
    atheris.Fuzz()
