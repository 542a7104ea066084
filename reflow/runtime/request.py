"""What one run is asked to do: the flags of ``run`` and the words after them."""

from __future__ import annotations

from collections.abc import Callable


class RunRequest:
    """A program, its parameters, and how to evaluate it.

    ``executor`` is empty when the configuration decides, and so is ``local_dir``. ``invalidate`` tells by
    identifier which nodes are not taken from the cache. ``out`` is where the result is placed, or empty.
    When it ``is_dry`` nothing is executed.
    """

    def __init__(self, path: str, args: list[str]) -> None:
        self.path = path
        self.args = args
        self.executor = ""
        self.local_dir = ""
        self.is_local = False
        self.assert_policy = "never"
        self.bottom_up = False
        self.invalidate: Callable[[str], bool] | None = None
        self.recompute_empty = False
        self.keep_going = False
        self.checks_inputs = False
        self.writes_graph = True
        self.draws_graph = False
        self.traces_flow = False
        self.predicts = False
        self.background_timeout_s = 600.0
        self.out = ""
        self.wants_json = False
        self.is_dry = False
