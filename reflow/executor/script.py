"""Commands that are too long for a word of a command line: they are put into a file."""

from __future__ import annotations

import os

_MAX_WORD_BYTES = 120_000
"""The kernel takes words of up to 128 KiB."""


def is_short(command: str) -> bool:
    """Tell whether a word can hold a command."""
    return len(os.fsencode(command)) <= _MAX_WORD_BYTES


def write_script(path: str, command: str) -> None:
    """Write a command to a file."""
    with open(path, "wb") as file:
        file.write(os.fsencode(command))


def arg_words(directory: str, command: str, *, is_text: bool = False) -> list[str]:
    """The last words of a bash that sees ``arg`` as ``/arg``: a command that no word can hold is put there.

    ``is_text``: words can hold text only.
    """
    is_word = is_short(command) and not (is_text and any("\udc80" <= char <= "\udcff" for char in command))
    if is_word:
        return ["-c", command]
    write_script(f"{directory}/arg/command", command)
    return ["/arg/command"]
