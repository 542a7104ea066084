"""Going on when delayed values are known: how a computation over delayed values becomes a `K` node.

Source: syntax/eval.go, (evalK).Continue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256

from reflow.core.digest import Digest
from reflow.flow.node import Flow, K, Val
from reflow.lang.digest_value import value_digest, write_value
from reflow.lang.extent import check_extent
from reflow.lang.types import Type
from reflow.lang.value import Value

Run = Callable[[list[Value]], Value]


def when_known(
    values: list[Value],
    types: Sequence[Type],
    run: Run,
    op: Callable[[], bytes],
    result_type: Type,
    *,
    ident: str = "",
    pos: object = "",
    result_ident: str = "",
) -> Value:
    """Return ``run(values)`` at once when none of the values is delayed, else the node that will.

    The node depends on the delayed values in order; its tag hashes the others at their ``types`` and then
    what ``op`` returns (asked for only when the tag is). ``run`` gets all values, none of them delayed (what
    is inside them may be), and may be called again. Its errors are the node's. ``result_ident`` names the
    result.
    """
    for value in values:
        if isinstance(value, Flow):
            return delayed(
                values, types, run, op, result_type, ident=ident, pos=pos, result_ident=result_ident
            )
    return run(values)


def delayed(
    values: list[Value],
    types: Sequence[Type],
    run: Run,
    op: Callable[[], bytes],
    result_type: Type,
    *,
    ident: str = "",
    pos: object = "",
    result_ident: str = "",
) -> K:
    """The node of `when_known`, also when no value is delayed."""
    step = Continuation(values, types, run, op, result_type, result_ident)
    deps = [value for value in values if isinstance(value, Flow)]
    return K(step, deps, step.tag, ident=ident, pos=pos)


class Continuation:
    """What a `K` node of `when_known` calls."""

    __slots__ = ("_op", "_result_ident", "_result_type", "_run", "_types", "_values")

    def __init__(
        self,
        values: list[Value],
        types: Sequence[Type],
        run: Run,
        op: Callable[[], bytes],
        result_type: Type,
        result_ident: str,
    ) -> None:
        self._values = values
        self._types = types
        self._run = run
        self._op = op
        self._result_type = result_type
        self._result_ident = result_ident

    def __call__(self, awaited: list[Value]) -> Flow:
        """Put the awaited values in their places and go on."""
        following = iter(awaited)
        values = [next(following) if isinstance(value, Flow) else value for value in self._values]
        result = self._run(values)
        if isinstance(result, Flow):
            return result
        return Val(result, partial(value_digest, result, self._result_type), ident=self._result_ident)

    def tag(self) -> Digest:
        """What tells this continuation from others."""
        hasher = sha256()
        for value, type_ in zip(self._values, self._types, strict=True):
            if not isinstance(value, Flow):
                check_extent(value, type_)
                write_value(hasher.update, value, type_)
        hasher.update(self._op())
        return Digest(hasher.digest())
