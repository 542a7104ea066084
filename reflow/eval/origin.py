"""Values that are one by digest: a reference with promised contents, and those contents themselves."""

from __future__ import annotations

from collections.abc import Sequence

from reflow.core.digest import Digest
from reflow.core.fileset import Fileset
from reflow.flow.digest import digest
from reflow.flow.node import Exec, Flow, Val


class Origins:
    """Remembers which references execs were given.

    A value that is equal to one of them by digest is given to later execs as that reference, so that the
    record tells where it comes from. Source: flow/flow.go, (*Flow).Canonicalize.
    """

    def __init__(self) -> None:
        self._references: dict[Digest, Fileset] = {}

    def arguments(self, node: Flow, values: Sequence[Fileset]) -> Sequence[Fileset]:
        """What an exec is given for the values of its dependencies."""
        if not isinstance(node, Exec):
            return values
        pairs = list(zip(node.deps, values, strict=True))
        for dep, value in pairs:
            if isinstance(dep, Val) and _promises(value):
                self._references.setdefault(digest(dep), value)
        return [self._argument(dep, value) for dep, value in pairs] if self._references else values

    def _argument(self, dep: Flow, value: Fileset) -> Fileset:
        return self._references.get(digest(dep), value) if isinstance(dep, Val) else value


def _promises(value: Fileset) -> bool:
    return any(file.id is None and file.content_hash is not None for file in value.all_files())
