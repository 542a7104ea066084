"""``$/test``: assertions.

Source: syntax/stdlib.go, testDecls.
"""

from __future__ import annotations

from reflow.core.errors import Kind, ReflowError
from reflow.flow.node import Flow
from reflow.lang import number
from reflow.lang.builtins.func import Mode, Native, PlacedError
from reflow.lang.builtins.repeat import NOTHING_TO_REPEAT, repeat_and_check
from reflow.lang.value import UNIT, CallSite, Unit, Value

_MOST_REPETITIONS = 10_000


def assert_list(args: list[Value], site: CallSite) -> Unit:
    """Every one is true."""
    failed = [str(index) for index, passed in enumerate(args[0]) if not passed]
    if failed:
        raise _failure(site, " ".join(failed))
    return UNIT


def assert_map(args: list[Value], site: CallSite) -> bool:
    """Every value is true."""
    failed = sorted([key for key, passed in args[0].items() if not passed])
    if failed:
        raise _failure(site, b", ".join(failed).decode("utf-8", "surrogateescape"))
    return True


def assert_all(args: list[Value], site: CallSite) -> bool:
    """Every one is true; names the first that is not."""
    for index, passed in enumerate(args[0]):
        if not passed:
            raise _failure(site, str(index))
    return True


def exec_repeat_and_check(args: list[Value], site: CallSite) -> Flow:
    """Run every exec of a value several times and compare the results."""
    value, times = args
    if isinstance(times, Flow):
        raise PlacedError(f"{site.pos} {site.ident}: the number of repetitions must not be delayed", site)
    if not isinstance(value, Flow):
        cause = ReflowError(Kind.PRECONDITION, cause=NOTHING_TO_REPEAT)
        raise PlacedError(str(ReflowError(Kind.OTHER, str(site.pos), site.ident, cause=cause)), site)
    count = number.index_64(times)
    if count > _MOST_REPETITIONS:
        text = f"{count} repetitions are too many, the limit is {_MOST_REPETITIONS}"
        raise PlacedError(f"{site.pos} {site.ident}: {text}", site)
    return repeat_and_check(value, count, site.session.note)


def _failure(site: CallSite, which: str) -> PlacedError:
    return PlacedError(f"{site.pos} failed assertion {site.ident}[{which}]", site)


FUNCTIONS = {
    "Assert": Native(assert_list, Mode.FORCED),
    "AssertMap": Native(assert_map, Mode.FORCED),
    "All": Native(assert_all, Mode.FORCED),
    "ExecRepeatAndCheck": Native(exec_repeat_and_check, Mode.DIRECT, is_flow=True),
}
