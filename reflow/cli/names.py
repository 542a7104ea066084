"""Names of things on the command line: ids, execs, allocs and hosts.

| text | kind |
| --- | --- |
| ``9909853c``, 64 digits, ``sha256:…`` | id |
| ``ec2-….compute.amazonaws.com`` | host |
| ``HOST:PORT/ALLOC`` | alloc |
| ``[HOST:PORT/]ALLOC/DIGITS`` | exec |

Source: tool/info.go, parseName.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from reflow.core.digest import DigestPrefix

_HEX = frozenset("0123456789abcdef")

EXAMPLES = """\
\t9909853c                                                                  (a run, task, value or file)
\t9909853c8cada5431400c5f89fe5658e139aea88cab8c1479a8c35c902b1cb49
\tsha256:9909853c8cada5431400c5f89fe5658e139aea88cab8c1479a8c35c902b1cb49
\tbb97e35db4101030/9909853c8cada5431400c5f89fe5658e139aea88cab8c1479a8c35c902b1cb49  (an exec)
\tec2-35-165-199-174.us-west-2.compute.amazonaws.com:9000/bb97e35db4101030  (an alloc of a cluster)"""


class NameKind(enum.Enum):
    """What a name is of."""

    ID = "id"
    HOST = "hostname"
    ALLOC = "alloc"
    EXEC = "exec"


class BadNameError(ValueError):
    """A text that names nothing."""


class Name(NamedTuple):
    """A name that was read. ``id`` is that of an id or exec."""

    kind: NameKind
    id: DigestPrefix | None = None
    host: str = ""
    alloc: str = ""


def parse_name(text: str) -> Name:
    """Read a name. Raises BadNameError saying why it cannot be one."""
    head, slash, tail = text.partition("/")
    if not slash or not tail:
        return _lone_name(text, head)
    host = ""
    if not _is_hex(head):
        host, (head, _, tail) = head, tail.partition("/")
    if not tail:
        return Name(NameKind.ALLOC, host=host, alloc=head)
    return Name(NameKind.EXEC, id=_prefix(text, tail), host=host, alloc=head)


def _lone_name(text: str, head: str) -> Name:
    if _is_hex(head):
        return Name(NameKind.ID, id=_prefix(text, head))
    if head.startswith("ec2") and head.endswith("compute.amazonaws.com"):
        return Name(NameKind.HOST, host=head)
    return Name(NameKind.ALLOC, alloc=head)


def _prefix(text: str, digits: str) -> DigestPrefix:
    try:
        return DigestPrefix.parse(digits)
    except ValueError as err:
        raise BadNameError(f"{text}: {err}") from err


def _is_hex(text: str) -> bool:
    digits = text.removeprefix("sha256:")
    return bool(digits) and _HEX.issuperset(digits)
