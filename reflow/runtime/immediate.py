"""Results that needed no run: placing them where ``-out`` says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.repository.localstate import local_state
from reflow.repository.place import Placer
from reflow.runtime.home import home
from reflow.runtime.result import result_entries
from reflow.runtime.stores import LOCAL_STATE

if TYPE_CHECKING:
    from reflow.lang.program import Program


def place_value(program: Program, target: str) -> None:
    """Place an immediate Main. Raises ReflowError."""
    state = local_state(os.path.join(home(), LOCAL_STATE))
    try:
        Placer(state, _nowhere).place_tree(result_entries(program.main, program.main_type), target)
    finally:
        state.close()


def _nowhere(digest: Digest) -> str:
    raise ReflowError(Kind.NOT_EXIST, "out", digest, cause="an immediate value has no files")
