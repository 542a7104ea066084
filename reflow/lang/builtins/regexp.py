"""``$/regexp``.

Source: syntax/stdlib.go, regexpDecls.
"""

from __future__ import annotations

from reflow.lang.builtins.func import Native
from reflow.lang.diagnostic import EvalError
from reflow.lang.regex import compile_regex
from reflow.lang.value import CallSite, Value


def groups(args: list[Value], site: CallSite) -> list[bytes]:
    """What the groups of the first match hold."""
    text, pattern = args
    found = compile_regex(pattern).find(text)
    if found is None:
        message = b"regexp %s does not match string %s" % (pattern, text)
        raise EvalError(message.decode("utf-8", "surrogateescape"))
    return found[1:]


def match(args: list[Value], site: CallSite) -> bool:
    """Whether there is a match anywhere."""
    text, pattern = args
    return compile_regex(pattern).is_match(text)


def replace(args: list[Value], site: CallSite) -> bytes:
    """Every match replaced by the expanded template."""
    text, pattern, template = args
    return compile_regex(pattern).replace_all(text, template)


FUNCTIONS = {"Groups": Native(groups), "Match": Native(match), "Replace": Native(replace)}
