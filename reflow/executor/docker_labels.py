"""What marks the containers of execs."""

from __future__ import annotations

from typing import Any

ID_LABEL = "reflow-id"
DIRECTORY_LABEL = "reflow-directory"
LOCALDIR_LABEL = "reflow-localdir"


def directory_of(row: dict[str, Any]) -> str:
    """The exec's directory of a container, as the daemon lists it."""
    return str((row.get("Labels") or {}).get(DIRECTORY_LABEL, ""))
