"""Bounds on what a program can make large with little: texts of messages, types, values.

A text, a type or a value that is made of another one twice, again and again, grows beyond every memory in
fifty lines. The bounds are far above what programs that are meant to run need.
"""

from __future__ import annotations

MAX_MESSAGE = 1 << 14
"""Characters of a message."""

MAX_QUOTED = 1 << 12
"""Characters of messages that another message quotes."""

MAX_TYPE_PARTS = 1 << 16
"""Types that a type is made of, each counted as often as it is written."""

MAX_TYPE_DEPTH = 1000
"""Types inside of one another."""

MAX_MODULE_PARTS = 1 << 20
"""The same for a type with a module's in it, which has a part for each of the module's values."""

MAX_LIST = 1 << 24
"""Elements of a list."""

MAX_STRING = 1 << 28
"""Bytes of a string."""

MAX_COMMAND = 1 << 24
"""Characters of an exec's command."""

MAX_EXTENT = 1 << 24
"""Parts of a value that is printed, digested, compared or forced, each counted as often as it is met."""


def cropped(text: str, limit: int = MAX_MESSAGE) -> str:
    """The text; a longer one without its middle, whose length is told."""
    if len(text) <= limit:
        return text
    head = limit * 3 // 4
    tail = limit - head
    return f"{text[:head]}… ({len(text) - limit} characters left out) …{text[-tail:]}"
