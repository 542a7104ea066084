"""Programs in tests: written to a directory, loaded, and their values worked off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from reflow.flow.node import Flow
from reflow.lang.force import force
from reflow.lang.print_value import show
from reflow.lang.program import load
from reflow.lang.session import Session
from reflow.lang.source_module import SourceModule
from tests.adapters.sim import evaluated


def write(root: Path, files: Mapping[str, str]) -> None:
    """Put files below a directory."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def opened(path: str, **options: object) -> SourceModule:
    """A module of the working directory."""
    module = Session(**options).open(path)  # type: ignore[arg-type]
    assert isinstance(module, SourceModule)
    return module


def values_of(path: str) -> dict[str, str]:
    """The exported values of a module as text, each evaluated by itself."""
    module = opened(path)
    made = module.make(Session(trace=lambda line: None), {})
    found = {}
    for field in module.type.fields:
        value = force(made[field.name], field.type)
        found[field.name] = show(evaluated(value) if isinstance(value, Flow) else value, field.type)
    return found


def main_of(path: str, argv: Sequence[str] = ()) -> str:
    """The value of a program's Main as text."""
    program = load(path, argv, Session(), make_absolute=False)
    main = program.main
    return program.text(evaluated(main) if isinstance(main, Flow) else main)
