"""Where Reflow keeps things of its own: ``$REFLOW_HOME``, by default ``~/.reflow``.

Imported by every command, ``version`` included: nothing but `os` may be imported here.
"""

from __future__ import annotations

import os


def home() -> str:
    """The directory of configuration, runs, cache and objects; absolute, not made here."""
    named = os.environ.get("REFLOW_HOME")
    return os.path.abspath(named) if named else os.path.join(os.path.expanduser("~"), ".reflow")


def default_config_path() -> str:
    """The configuration file that is read unless ``-config`` names another."""
    return os.path.join(home(), "config.yaml")


def runs_dir() -> str:
    """Where the files of runs are."""
    return os.path.join(home(), "runs")
