"""``reflow list``: what there is to run on, and what runs there. Source: tool/list.go."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal, UsageError
from reflow.cli.names import BadNameError, Name, NameKind, parse_name
from reflow.cli.output import tabulate
from reflow.core.resources import Resources
from reflow.core.units import format_duration, format_general, format_size

if TYPE_CHECKING:
    from reflow.runtime.livework import LiveRun
    from reflow.taskdb import Task

_DETAILS = """\
List shows what runs on this machine. An alloc is a local directory that live runs have execs in; its execs
are listed with its name, or all with -a, which also shows what the machine has left to offer. The columns are

	type    offer, alloc or exec
	state   the state of an exec
	memory  what it has, or has asked for
	cpu     likewise
	disk    likewise
	expires when an alloc was last heard of less than its lifetime ago: the rest of that
	ident   the exec's identifier, or the alloc's owner
	name    the name of the exec or alloc: "reflow kill", "reflow shell" and "reflow info" take it"""


class _Entry(NamedTuple):
    kind: str
    state: str
    resources: Resources
    expires: str
    ident: str
    name: str


def run(app: App, arguments: Arguments) -> int:
    """List offers, allocs and execs."""
    if arguments["a"] and arguments.words:
        raise UsageError("list: -a shows everything: it takes no name")
    name = _name(arguments.words[0]) if arguments.words else None
    if name is not None and name.kind not in (NameKind.EXEC, NameKind.ALLOC, NameKind.ID):
        app.write_error(f"{arguments.words[0]}: can only list allocs and execs\n")
        return 1
    return app.run_async(_list(app, arguments, name))


def _name(word: str) -> Name:
    try:
        return parse_name(word)
    except BadNameError as err:
        raise Fatal(f"not an alloc or exec {word}: {err}") from err


async def _list(app: App, arguments: Arguments, name: Name | None) -> int:
    from reflow.cli.working import work_here
    from reflow.runtime.livework import local_dir_id, local_dirs

    live, _ = await work_here(app)
    directories = {local_dir_id(directory): directory for directory in local_dirs(app.config, live)}
    if name is None:
        entries = [_offer(app, live)] if arguments["a"] else []
        entries += _allocs(directories, live, has_execs=arguments["a"])
    else:
        entries = _named(arguments.words[0], name, live)
    rows = [each.name if arguments["n"] else _row(each) for each in entries]
    app.write(tabulate("".join([f"{row}\n" for row in rows])))
    return 0


def _row(entry: _Entry) -> str:
    amounts = entry.resources
    cells = [
        entry.kind,
        entry.state,
        format_size(amounts.amount("mem")),
        format_general(amounts.amount("cpu")),
        format_size(amounts.amount("disk")),
        entry.expires,
        entry.ident,
        entry.name,
    ]
    return "\t".join(cells)


def _offer(app: App, live: list[LiveRun]) -> _Entry:
    """What the machine has beyond what running tasks asked for."""
    from reflow.executor.machine import local_resources

    total = local_resources(app.config.local_dir)
    taken = [task.resources for each in live for task in each.tasks]
    left = {
        name: max(0.0, amount - sum(resources.amount(name) for resources in taken))
        for name, amount in total.items()
        if name in ("mem", "cpu", "disk")
    }
    return _Entry("offer", "", Resources(left), "", "", "local")


def _allocs(directories: dict[str, str], live: list[LiveRun], *, has_execs: bool) -> list[_Entry]:
    from reflow.executor.machine import local_resources
    from reflow.runtime.livework import local_dir_of

    entries = []
    for id, directory in directories.items():
        users = [each for each in live if any(local_dir_of(task) == directory for task in each.tasks)]
        if not users:
            continue
        owners = ", ".join(dict.fromkeys([each.run.user for each in users]))
        entries.append(_Entry("alloc", "", local_resources(directory), _expires(users), owners, id))
        if has_execs:
            entries += _execs(directory, users)
    return entries


def _expires(users: list[LiveRun]) -> str:
    latest = max(each.run.keepalive for each in users if each.run.keepalive is not None)
    return format_duration(int((latest - datetime.now(UTC)).total_seconds()))


def _execs(directory: str, live: list[LiveRun]) -> list[_Entry]:
    """The execs of a local directory that have not ended."""
    from reflow.runtime.livework import exec_dirs, local_dir_of

    running = {
        each.tenant.id
        for each in exec_dirs(directory)
        if each.is_running and (each.tenant.pid or each.tenant.executor == "docker")
    }
    tasks = [task for each in live for task in each.tasks if local_dir_of(task) == directory]
    return [_exec(task, running) for task in tasks]


def _exec(task: Task, running: set[str]) -> _Entry:
    is_running = task.result_id is not None and task.result_id.hex() in running
    state = "running" if is_running else "initializing"
    return _Entry("exec", state, task.resources, "", task.ident, task.uri)


def _named(word: str, name: Name, live: list[LiveRun]) -> list[_Entry]:
    """The execs of an alloc, or the exec of that name."""
    from reflow.runtime.livework import local_dir_of

    found = []
    directories = dict.fromkeys(
        [directory for each in live for task in each.tasks if (directory := local_dir_of(task)) is not None]
    )
    for directory in directories:
        for entry in _execs(directory, live):
            alloc, _, digits = entry.name.partition("/")
            is_meant = (
                alloc == (name.alloc or alloc) if name.kind is not NameKind.ID else str(name.id) == alloc
            )
            if is_meant and (name.kind is not NameKind.EXEC or digits.startswith(str(name.id))):
                found.append(entry)
    if not found:
        only = "can only list allocs and execs, and " if name.kind is NameKind.ID else ""
        raise Fatal(f"{word}: {only}resource does not exist: nothing of that name runs here")
    return found


COMMAND = Command(
    "list",
    "list [-a] [[-n] alloc]",
    _DETAILS,
    run,
    flags=[
        ("a", "bool", "false", "show everything: offers, allocs and execs"),
        ("n", "bool", "false", "show names only"),
    ],
    max_words=1,
)
