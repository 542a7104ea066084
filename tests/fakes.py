"""In-memory implementations for tests: real ones, which do what their seams promise.

`MemoryExecutor` "runs" an exec by calling a Python function; `MemoryScheduler` runs tasks on one at once;
`RecordingReport` keeps what it was told; `CountingAssoc` and `CountingRepository` count requests.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reflow.assoc import Assoc, AssocEntry, Key, Kind
from reflow.core.digest import Digest, DigestPrefix
from reflow.core.errors import Kind as ErrorKind
from reflow.core.errors import ReflowError
from reflow.core.execconfig import ExecConfig, ExecInspect, ExecResult, InputArg, ProfileEntry
from reflow.core.fileset import File, Fileset
from reflow.core.resources import Resources
from reflow.eval import Report
from reflow.flow.node import ArgRef, Coerce, Exec, External, Flow, K, Val
from reflow.pool import Exec as RunningExec
from reflow.pool import Executor, Progress, Room
from reflow.repository import Repository
from reflow.repository.memory import MemoryRepository
from reflow.sched import Scheduler, Task, TaskOutcome

Program = Callable[[ExecConfig], Awaitable[ExecResult]]
"""What an exec does: its result, or ReflowError for trouble of the machinery."""

BIG_MACHINE = Resources(mem=float(1 << 40), cpu=64.0, disk=float(1 << 44))


class CountingRepository(MemoryRepository):
    """A repository in memory that counts requests; ``lost`` objects are not there, ``broken`` fails all."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.lost: set[Digest] = set()
        self.broken: ReflowError | None = None

    def _note(self, call: str) -> None:
        self.calls[call] += 1
        if self.broken is not None:
            raise self.broken

    async def missing(self, digests: Collection[Digest]) -> set[Digest]:
        self._note("missing")
        return await super().missing(digests) | (set(digests) & self.lost)

    async def read_many(self, digests: Collection[Digest]) -> Mapping[Digest, bytes | ReflowError]:
        self._note("read_many")
        absent = ReflowError(ErrorKind.NOT_EXIST, "repository.get")
        found = await super().read_many(digests)
        return {digest: absent if digest in self.lost else data for digest, data in found.items()}

    async def put_bytes_many(self, objects: Iterable[bytes]) -> list[Digest]:
        self._note("put_bytes_many")
        digests = await super().put_bytes_many(objects)
        self.lost.difference_update(digests)
        return digests


class CountingAssoc:
    """An assoc in a dictionary; counts requests, and ``broken`` makes all of them fail."""

    def __init__(self) -> None:
        self.rows: dict[Key, Digest] = {}
        self.calls: Counter[str] = Counter()
        self.asked: list[Key] = []
        self.broken: ReflowError | None = None

    def _note(self, call: str) -> None:
        self.calls[call] += 1
        if self.broken is not None:
            raise self.broken

    async def open(self) -> None:
        self._note("open")

    async def get_many(self, keys: Collection[Key]) -> Mapping[Key, Digest | ReflowError]:
        self._note("get_many")
        self.asked += keys
        return {key: self.rows[key] for key in keys if key in self.rows}

    async def put_many(self, entries: Mapping[Key, Digest]) -> None:
        self._note("put_many")
        self.rows.update(entries)

    async def expand(self, prefix: DigestPrefix) -> list[Digest]:
        return sorted({digest for _, digest in self.rows if prefix.expands_to(digest)})

    async def delete(self, key: Digest) -> None:
        doomed = [row for row in self.rows if row[1] == key]
        if not doomed:
            raise ReflowError(ErrorKind.NOT_EXIST, "assoc.delete", key)
        for row in doomed:
            del self.rows[row]

    async def scan(self) -> AsyncIterator[AssocEntry]:
        for digest in {digest for _, digest in self.rows}:
            values = {kind: self.rows[kind, digest] for kind in Kind if (kind, digest) in self.rows}
            yield AssocEntry(digest, values, 0, frozenset())

    async def count(self) -> int:
        return len({digest for _, digest in self.rows})

    async def close(self) -> None:
        """Nothing is held."""


class MemoryExec:
    """A running or finished call of a program."""

    def __init__(self, id: Digest, config: ExecConfig, program: Program) -> None:
        self._id = id
        self._config = config
        self._created = datetime.now(UTC)
        self._result: ExecResult | None = None
        self.task = asyncio.ensure_future(self._run(program))

    async def _run(self, program: Program) -> None:
        self._result = await program(self._config)

    @property
    def id(self) -> Digest:
        return self._id

    @property
    def uri(self) -> str:
        return f"memory/{self._id.hex()}"

    @property
    def has_succeeded(self) -> bool:
        return self._result is not None and self._result.error is None

    async def wait(self) -> None:
        await asyncio.shield(self.task)

    async def result(self) -> ExecResult:
        assert self._result is not None
        return self._result

    async def inspect(self) -> ExecInspect:
        error = None if self._result is None else self._result.error
        profile = {"cpu": ProfileEntry(1, 1, 0, 1), "mem": ProfileEntry(1 << 20, 1 << 20, 0, 1)}
        return ExecInspect(
            config=self._config,
            created=self._created,
            state="complete" if self.task.done() else "running",
            exec_error=error,
            profile=profile,
            runtime_s=1.0,
        )

    async def logs(self, *, stdout: bool, stderr: bool, follow: bool = False) -> AsyncIterator[bytes]:
        if stdout:
            yield b"memory\n"


class MemoryExecutor:
    """Runs programs as asyncio tasks; unless told otherwise asserts that it is never over-committed."""

    def __init__(
        self, program: Program, resources: Resources = BIG_MACHINE, *, is_limited: bool = True
    ) -> None:
        self._is_limited = is_limited
        self._program = program
        self._resources = resources
        self._execs: dict[Digest, MemoryExec] = {}
        self.put_configs: list[ExecConfig] = []
        self.removed: list[Digest] = []
        self.is_closed = False

    @property
    def name(self) -> str:
        return "memory"

    @property
    def resources(self) -> Resources:
        return self._resources

    @property
    def running(self) -> list[MemoryExec]:
        return [each for each in self._execs.values() if not each.task.done()]

    async def start(self) -> None:
        """Nothing is left behind."""

    async def put(
        self, id: Digest, config: ExecConfig, progress: Progress | None = None, room: Room | None = None
    ) -> RunningExec:
        if id in self._execs:
            return self._execs[id]
        if room is not None:
            await room.enter()
        self.put_configs.append(config)
        self._execs[id] = MemoryExec(id, config, self._program)
        if self._is_limited:
            used = Resources()
            for each in self.running:
                used += each._config.resources
            assert self._resources.fits(used), f"over-committed: {used} of {self._resources}"
        if room is not None:
            self._execs[id].task.add_done_callback(lambda task: self._leave(id, room))
        return self._execs[id]

    def _leave(self, id: Digest, room: Room) -> None:
        found = self._execs.get(id)
        if found is not None and found.has_succeeded:
            room.leave()

    async def get(self, id: Digest) -> RunningExec:
        if id not in self._execs:
            raise ReflowError(ErrorKind.NOT_EXIST, "executor.get", id)
        return self._execs[id]

    async def remove(self, id: Digest) -> None:
        self.removed.append(id)
        if id not in self._execs:
            raise ReflowError(ErrorKind.NOT_EXIST, "executor.remove", id)
        task = self._execs.pop(id).task
        task.cancel()
        await asyncio.wait([task])

    async def close(self, *, kill: bool = False) -> None:
        self.is_closed = True
        for id in list(self._execs) if kill else ():
            await self.remove(id)


class MemoryScheduler:
    """Runs every task at once: nothing waits for resources."""

    def __init__(self, program: Program, resources: Resources = BIG_MACHINE) -> None:
        self.executor = MemoryExecutor(program, resources, is_limited=False)
        self.tasks: list[Task] = []

    @property
    def resources(self) -> Resources:
        return self.executor.resources

    async def run(self, task: Task) -> TaskOutcome:
        self.tasks.append(task)
        running = await self.executor.put(task.id, task.config, task.on_progress)
        if task.on_start is not None:
            task.on_start(running)
        try:
            await running.wait()
        except ReflowError as err:
            return TaskOutcome(error=err)
        except asyncio.CancelledError:
            await self.executor.remove(task.id)
            raise
        return TaskOutcome(result=await running.result(), inspect=await running.inspect())

    async def close(self, *, kill: bool = False) -> None:
        await self.executor.close(kill=kill)


class RecordingReport:
    """Keeps what it was told: events as (what, ident, …), messages as (level, text)."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []
        self.messages: list[tuple[str, str]] = []

    def queued(self, flow: External, config: ExecConfig, attempt: int) -> None:
        self.events.append(("queued", flow.ident, attempt))

    def progress(self, flow: External, what: str, done_bytes: int, total_bytes: int) -> None:
        self.events.append(("progress", flow.ident, what))

    def started(
        self,
        flow: External,
        config: ExecConfig,
        attempt: int,
        task_id: Digest,
        running: RunningExec,
    ) -> None:
        self.events.append(("started", flow.ident, attempt))

    def finished(
        self,
        flow: External,
        config: ExecConfig,
        task_id: Digest,
        value: Fileset | None,
        inspect: ExecInspect | None,
        error: ReflowError | None,
        keys: Sequence[Digest],
    ) -> None:
        self.events.append(("finished", flow.ident, "ok" if error is None else error.kind.value))

    def cached(self, flow: External, value: Fileset, key: Digest) -> None:
        self.events.append(("cached", flow.ident))

    def message(self, level: str, text: str) -> None:
        self.messages.append((level, text))

    def of(self, what: str) -> list[object]:
        """Idents of the events of one sort, in order."""
        return [event[1] for event in self.events if event[0] == what]

    def texts(self, level: str) -> list[str]:
        """Messages of one level."""
        return [text for each, text in self.messages if each == level]


class Shell:
    """A program for tests: each output is a file whose bytes are made of the command and its inputs.

    ``gates``: ident -> event to wait for; ``failures``: ident -> errors of the command, first one first;
    ``trouble``: the same for the machinery. ``ran`` has the idents that were run, in order.
    """

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.gates: dict[str, asyncio.Event] = {}
        self.failures: dict[str, list[ReflowError]] = {}
        self.trouble: dict[str, list[ReflowError]] = {}
        self.outputs: dict[str, bytes] = {}
        self.ran: list[str] = []
        self.ended: list[str] = []

    async def __call__(self, config: ExecConfig) -> ExecResult:
        self.ran.append(config.ident)
        if config.ident in self.gates:
            await self.gates[config.ident].wait()
        if self.trouble.get(config.ident):
            raise self.trouble[config.ident].pop(0)
        self.ended.append(config.ident)
        if self.failures.get(config.ident):
            return ExecResult(error=self.failures[config.ident].pop(0))
        if config.type == "extern":
            (argument,) = config.args
            assert isinstance(argument, InputArg)
            return ExecResult(argument.fileset)
        file = await self._write(config)
        if config.type == "intern":
            return ExecResult(Fileset.of_file(file))
        return ExecResult(Fileset(members=[Fileset.of_file(file)]))

    async def _write(self, config: ExecConfig) -> File:
        inputs = b"".join([arg.fileset.material() for arg in config.args if isinstance(arg, InputArg)])
        content = self.outputs.get(config.ident, (config.cmd + config.url).encode() + inputs)
        (digest,) = await self.repository.put_bytes_many([content])
        return File(digest, len(content))


def an_exec(
    ident: str, *deps: Flow, cmd: str = "", image: str = "ubuntu", mem: float = 0, cpu: float = 0
) -> Exec:
    """An exec with one output; its dependencies are inputs. ``cmd`` defaults to something with the ident."""
    text = (cmd or f"run {ident}") + " %s" * (len(deps) + 1)
    argmap = [ArgRef(number, is_output=False) for number in range(len(deps))] + [ArgRef(0, is_output=True)]
    return Exec(
        image,
        text,
        deps,
        argmap=argmap,
        arg_names=[*(f"{{{{in{number}}}}}" for number in range(len(deps))), "{{out}}"],
        output_names=["out"],
        output_is_dir=[False],
        resources=Resources(mem=mem, cpu=cpu, disk=0.0),
        ident=ident,
        pos=f"main.rf:{len(deps) + 1}:1",
    )


def output(of: Flow, number: int = 0) -> Coerce:
    """One output of an exec, as a fileset."""
    return Coerce(lambda fileset: fileset.members[number], of, Digest.of_text(f"output {number}"))


def a_value(value: object = 0) -> Val:
    """A constant of the language."""
    return Val(value, Digest.of_text(repr(value)))


def then(*deps: Flow, fn: Callable[[list[object]], Flow], tag: str = "then", ident: str = "") -> K:
    """A continuation."""
    return K(fn, deps, Digest.of_text(tag), ident=ident)


if TYPE_CHECKING:
    _assoc: type[Assoc] = CountingAssoc
    _repository: type[Repository] = CountingRepository
    _executor: type[Executor] = MemoryExecutor
    _exec: type[RunningExec] = MemoryExec
    _scheduler: type[Scheduler] = MemoryScheduler
    _report: type[Report] = RecordingReport
