"""The version of this program, as a constant: reading package metadata would double the start-up time."""

from __future__ import annotations

import sys

VERSION = "2.0.0.dev0"


def version_text() -> str:
    """``VERSION (Python X.Y.Z)``, as ``reflow version`` prints it."""
    major, minor, micro = sys.version_info[:3]
    return f"{VERSION} (Python {major}.{minor}.{micro})"
