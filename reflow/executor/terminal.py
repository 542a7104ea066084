"""The terminal of a user whose keys go elsewhere."""

from __future__ import annotations

import contextlib
import termios
import tty
from collections.abc import Iterator


@contextlib.contextmanager
def raw_terminal(fd: int) -> Iterator[None]:
    """Have every key of a terminal passed on, also Ctrl-C, and put it back at the end."""
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSADRAIN)  # what has been typed already is meant for the other side
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
