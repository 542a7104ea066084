"""What the runs of a batch have in common, as one of them is given it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from reflow.disk.database import Database
    from reflow.runtime.localcluster import LocalCluster
    from reflow.runtime.runstate import RunState
    from reflow.runtime.stores import Stores


class Membership(NamedTuple):
    """A run's place in its batch: its state, and what it shares with the other runs.

    Stores and cluster are open, and are closed by the batch, and so is ``explained``, the record of what was
    decided. Messages of the run go to ``log_path``.
    """

    state: RunState
    stores: Stores
    cluster: LocalCluster
    explained: Database
    log_path: str
