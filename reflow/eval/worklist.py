"""The work-list: which nodes can be computed now, without I/O, recursion or a coroutine per node.

`WorkList` walks the graph from what is demanded, computes pure operations and continuations itself, and
puts what needs the world (look-ups, hashing, storing, running) into lists that the evaluator empties.
Execs, interns, externs and inline data are one by digest; everything else is one by node, because
continuations of equal digest may differ.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ProgramError, ReflowError
from reflow.core.fileset import File, Fileset
from reflow.eval import Outcome
from reflow.eval.cell import (
    DONE,
    FORWARDING,
    NEW,
    OUTSIDE,
    TRIED_ALL,
    TRIED_NAME,
    UNTRIED,
    WAITING,
    Cell,
    When,
)
from reflow.eval.operation import NODES, VALUES
from reflow.flow.data import LocalFile
from reflow.flow.digest import digest, renamed, unhashed_files
from reflow.flow.node import Data, Exec, Extern, Flow, Intern, K, Val

_COMPUTED = frozenset({Val, Data, *VALUES, *NODES})

MUST_INTERN_MIX = Digest.of_text("internMustInternDigest")


class WorkList:
    """Decides what is next. Single-threaded; every method returns at once.

    ``is_valid`` tells whether a node may be taken from the cache, ``log`` takes (level, text). When it
    ``rescues``, what depends on a failure is looked up by its logical digest before it counts as failed.
    When it ``keeps_files``, local files are stored like inline data.
    """

    def __init__(self, when: When, is_valid: Callable[[Flow], bool], log: Callable[[str, str], None]) -> None:
        self.ready: deque[Cell] = deque()
        self.to_look_up: list[tuple[Cell, bool]] = []
        """Cells, and whether their logical digest was looked up in vain before."""
        self.to_hash: list[tuple[Cell, list[LocalFile]]] = []
        self.to_store: list[Cell] = []
        self.to_run: list[Cell] = []
        self.has_failed = False
        self.is_stopping = False
        self.external_count = 0
        self.rescues = False
        self.keeps_files = False
        self._when = when
        self._is_valid = is_valid
        self._log = log
        self._cells: dict[Flow, Cell] = {}
        self._by_digest: dict[Digest, Cell] = {}
        self._dirty: dict[Flow, bool] = {}

    def demand(self, node: Flow) -> Cell:
        """Return the node's cell; the node is evaluated from now on if it was not yet."""
        cell = self._cells.get(node)
        if cell is not None:
            return cell
        kind = node.__class__
        if kind is Exec or kind is Intern or kind is Extern or (kind is Data and _is_inline(node)):
            return self._demand_named(node)
        cell = self._cells[node] = Cell(node)
        self.ready.append(cell)
        return cell

    def _demand_named(self, node: Flow) -> Cell:
        files = unhashed_files(node)
        if files:
            cell = self._cells[node] = Cell(node)
            cell.phase = OUTSIDE
            self.to_hash.append((cell, files))
            return cell
        try:
            name = _memo_key(node)
        except (ProgramError, ReflowError) as err:
            # A tag that is computed when it is asked for may fail.
            cell = self._cells[node] = Cell(node)
            self.fail(cell, err)
            return cell
        known = self._by_digest.get(name)
        if known is not None:
            self._cells[node] = known
            return known
        cell = self._by_digest[name] = self._cells[node] = Cell(node)
        self._admit(cell)
        return cell

    def _admit(self, cell: Cell) -> None:
        if cell.node.__class__ is not Data:
            self.external_count += 1
        cell.phase = NEW
        self.ready.append(cell)

    def step(self, limit: int) -> None:
        """Work on at most ``limit`` cells that can make progress."""
        ready = self.ready
        for _ in range(min(limit, len(ready))):
            cell = ready.popleft()
            if cell.phase != DONE:
                self._advance(cell)

    def _advance(self, cell: Cell) -> None:
        phase = cell.phase
        if phase == FORWARDING:
            self._follow(cell)
        elif phase == WAITING and cell.pending:
            self._dependency_failed(cell, self._first_failure(cell.node))
        elif self.is_stopping:
            # Only failures still travel to whoever waits for them.
            return
        elif phase == WAITING:
            self._dependencies_done(cell)
        elif phase == NEW:
            self._open(cell)

    def _follow(self, cell: Cell) -> None:
        target = cell.target
        assert target is not None
        answer = self._cells[target]
        assert answer.phase == DONE, "woken too early"
        if answer.error is not None:
            self.fail(cell, answer.error)
        else:
            self.finish(cell, answer.value)

    def _dependency_failed(self, cell: Cell, failure: BaseException) -> None:
        """It has failed as well, unless the cache may have it all the same."""
        node = cell.node
        is_cacheable = node.__class__ is Exec or node.__class__ is Intern
        if self.rescues and is_cacheable and cell.tried == UNTRIED and self._may_look_up(node):
            cell.tried = TRIED_NAME
            self._send_look_up(cell, missed_name=False)
        else:
            self.fail(cell, failure)

    def _first_failure(self, node: Flow) -> BaseException:
        """The error of the first dependency that has failed."""
        for dep in node.deps:
            outcome = self.outcome(dep)
            if outcome is not None and outcome.error is not None:
                return outcome.error
        raise AssertionError("woken without a failure")

    def outcome(self, node: Flow) -> Outcome | None:
        """What a node came to, or None when it is not done."""
        if node.__class__ is Val:
            assert isinstance(node, Val)
            return Outcome(node.value, node.error)
        cell = self._cells.get(node)
        if cell is None or cell.phase != DONE:
            return None
        return Outcome(cell.value, cell.error)

    def values(self, node: Flow) -> list[Any] | None:
        """The values of all dependencies, or None when one has none yet."""
        values = []
        for dep in node.deps:
            if dep.__class__ is Val:
                assert isinstance(dep, Val)
                if dep.error is not None:
                    return None
                values.append(dep.value)
                continue
            cell = self._cells.get(dep)
            if cell is None or cell.phase != DONE or cell.error is not None:
                return None
            values.append(cell.value)
        return values

    def _open(self, cell: Cell) -> None:
        """Look the node up, or evaluate its dependencies."""
        node = cell.node
        if cell.tried == UNTRIED and (node.__class__ is Exec or node.__class__ is Intern):
            if not self._may_look_up(node):
                cell.tried = TRIED_ALL
            elif self._when is When.TOP_DOWN:
                cell.tried = TRIED_NAME if self.values(node) is None else TRIED_ALL
                self._send_look_up(cell, missed_name=False)
                return
        self._expand(cell)

    def _may_look_up(self, node: Flow) -> bool:
        if self._when is When.NEVER or not self._is_valid(node):
            return False
        return self._when is When.BOTTOM_UP or not self.is_dirty(node)

    def _send_look_up(self, cell: Cell, *, missed_name: bool) -> None:
        cell.phase = OUTSIDE
        self.to_look_up.append((cell, missed_name))

    def missed(self, cell: Cell) -> None:
        """The cache does not have it."""
        cell.phase = NEW
        self.ready.append(cell)

    def _expand(self, cell: Cell) -> None:
        """Demand the dependencies and wait for them."""
        pending = 0
        failure: BaseException | None = None
        for dep in cell.node.deps:
            if dep.__class__ is Val:
                assert isinstance(dep, Val)
                failure = failure or dep.error
                continue
            other = self.demand(dep)
            if other.phase == DONE:
                failure = failure or other.error
                continue
            pending += 1
            if other.waiters is None:
                other.waiters = [cell]
            else:
                other.waiters.append(cell)
        if failure is not None:
            self._dependency_failed(cell, failure)
        elif pending:
            cell.phase = WAITING
            cell.pending = pending
        else:
            self._dependencies_done(cell)

    def _dependencies_done(self, cell: Cell) -> None:
        kind = cell.node.__class__
        if kind in _COMPUTED:
            self._compute(cell)
        elif cell.tried == TRIED_ALL or self._when is When.NEVER or kind is Extern:
            cell.phase = OUTSIDE
            self.to_run.append(cell)
        else:
            missed_name = cell.tried == TRIED_NAME
            cell.tried = TRIED_ALL
            self._send_look_up(cell, missed_name=missed_name)

    def _compute(self, cell: Cell) -> None:
        node = cell.node
        try:
            self._apply(cell, node)
        except (ProgramError, ReflowError) as err:
            self.fail(cell, err)
        except Exception as err:  # noqa: BLE001  (code made from a program: our bug, shown as such)
            self._log("error", "".join(traceback.format_exception(err)).rstrip())
            self.fail(cell, internal_error(node, err))

    def _apply(self, cell: Cell, node: Flow) -> None:
        values = self.values(node)
        assert values is not None
        continuation = NODES.get(node.__class__)
        if continuation is not None:
            self._forward(cell, continuation(node, values))
        elif isinstance(node, Val):
            self._take_value(cell, node)
        elif isinstance(node, Data):
            self._take_data(cell, node)
        else:
            self.finish(cell, VALUES[node.__class__](node, values))

    def _take_value(self, cell: Cell, node: Val) -> None:
        if node.error is not None:
            self.fail(cell, node.error)
        else:
            self.finish(cell, node.value)

    def _take_data(self, cell: Cell, node: Data) -> None:
        content = node.content
        if isinstance(content, bytes) or (content.is_hashed and self.keeps_files):
            cell.phase = OUTSIDE
            self.to_store.append(cell)
        elif content.is_hashed:
            self.finish(cell, Fileset.of_file(File(content.digest, content.size)))
        else:
            cell.phase = OUTSIDE
            self.to_hash.append((cell, [content]))

    def finish(self, cell: Cell, value: Any) -> None:
        """The node has a value."""
        cell.value = value
        cell.phase = DONE
        waiters = cell.waiters
        if waiters is None:
            return
        cell.waiters = None
        for waiter in waiters:
            if waiter.phase == WAITING:
                waiter.pending -= 1
                if not waiter.pending:
                    self.ready.append(waiter)
            elif waiter.phase == FORWARDING:
                self.ready.append(waiter)

    def fail(self, cell: Cell, error: BaseException) -> None:
        """The node has failed: so have all that wait for it, as soon as they are worked on."""
        self.has_failed = True
        cell.error = error
        cell.phase = DONE
        self.ready.extend(cell.waiters or ())
        cell.waiters = None

    def hashed(self, cell: Cell) -> None:
        """The local files are hashed that its digest needs."""
        node = cell.node
        if isinstance(node, Data):
            self._compute(cell)
            return
        name = _memo_key(node)
        other = self._by_digest.get(name)
        if other is None:
            self._by_digest[name] = cell
            self._admit(cell)
        else:
            self._forward(cell, other.node)

    def _forward(self, cell: Cell, node: Flow) -> None:
        """``cell`` becomes whatever ``node`` becomes."""
        assert isinstance(node, Flow), f"a continuation returned {type(node).__name__}, want a node"
        origin = cell.origin or cell.node
        if node.__class__ is Extern:
            node = self._take_over(node, origin)
        cell.target = node
        if isinstance(node, Val):
            self._take_value(cell, node)
            return
        is_fresh = node not in self._cells
        target = self.demand(node)
        if is_fresh and target.node is node:
            target.origin = origin
        cell.phase = FORWARDING
        if target.phase == DONE:
            self._follow(cell)
        elif target.waiters is None:
            target.waiters = [cell]
        else:
            target.waiters.append(cell)

    def _take_over(self, node: Flow, origin: Flow) -> Flow:
        """An extern that a continuation returned runs under the continuation's digest, as ever."""
        if not isinstance(origin, K) or unhashed_files(origin) or unhashed_files(node):
            return node
        twin = renamed(node, digest(origin))
        other = self._by_digest.get(digest(node).mix(digest(twin)))
        if other is not None:
            return other.node
        cell = self._by_digest[digest(node).mix(digest(twin))] = self._cells[twin] = Cell(twin)
        self._admit(cell)
        return twin

    def is_dirty(self, node: Flow) -> bool:
        """Tell whether an extern is the node or is below it, as far as can be seen now."""
        known = self._dirty
        if node.__class__ is not Extern and all(dep.__class__ is Val for dep in node.deps):
            return False
        stack = [node]
        while stack:
            top = stack[-1]
            waiting = [dep for dep in top.deps if dep.__class__ is not Val and dep not in known]
            if waiting and top.__class__ is not Extern:
                stack.extend(waiting)
                continue
            known[top] = top.__class__ is Extern or any(known.get(dep, False) for dep in top.deps)
            stack.pop()
        return known[node]

    def continued(self) -> dict[Flow, Flow]:
        """Continuation -> the node that it returned, for those that ran."""
        return {node: cell.target for node, cell in self._cells.items() if cell.target is not None}

    def failed(self) -> list[tuple[Flow, BaseException]]:
        """Every node that failed, with its error."""
        return [(node, cell.error) for node, cell in self._cells.items() if cell.error is not None]


def _is_inline(node: Flow) -> bool:
    return isinstance(node, Data) and isinstance(node.content, bytes)


def _memo_key(node: Flow) -> Digest:
    """What makes two external or data nodes one."""
    name = digest(node)
    return name.mix(MUST_INTERN_MIX) if isinstance(node, Intern) and node.must_intern else name


def internal_error(node: Flow, err: BaseException) -> ReflowError:
    """The error of a node whose computation hit a bug of ours."""
    text = f"{type(err).__name__}: {err} (this is a bug of reflow; the log has the details)"
    wrapped = ReflowError(Kind.FATAL, "internal error", node.ident or node.op, cause=text)
    wrapped.__cause__ = err
    return wrapped
