"""What ``info`` tells of what runs on this machine: allocs (local directories), and execs that run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.output import rfc3339
from reflow.cli.working import work_here
from reflow.core.units import format_duration, format_size

if TYPE_CHECKING:
    from reflow.core.digest import DigestPrefix
    from reflow.runtime.livework import LiveRun
    from reflow.taskdb import Task


async def alloc_text(app: App, word: str, alloc: str) -> str:
    """The block of a local directory that live runs use; nothing when there is none of that name."""
    from reflow.executor.machine import local_resources
    from reflow.runtime.livework import local_dir_id, local_dir_of

    live, directories = await work_here(app)
    for directory in directories:
        users = [each for each in live if any(local_dir_of(task) == directory for task in each.tasks)]
        if local_dir_id(directory) != alloc or not users:
            continue
        resources = local_resources(directory)
        lines = [
            f"{word} (alloc)",
            f"\tmem:\t{format_size(resources.amount('mem'))}",
            f"\tcpu:\t{resources.amount('cpu'):.1f}",
            f"\tdisk:\t{format_size(resources.amount('disk'))}",
            f"\towner:\t{', '.join(dict.fromkeys([each.run.user for each in users]))}",
            f"\texpires:\t{_expires(users)}",
            f"\tdirectory:\t{directory}",
            "\texecs:",
            *[f"\t  {task.uri}" for each in users for task in each.tasks if local_dir_of(task) == directory],
        ]
        return "".join([f"{line}\n" for line in lines])
    return ""


def _expires(users: list[LiveRun]) -> str:
    latest = max(each.run.keepalive for each in users if each.run.keepalive is not None)
    left_s = int((latest - datetime.now(UTC)).total_seconds())
    return f"{rfc3339(latest.astimezone())} (in {format_duration(max(0, left_s))})"


async def live_exec_text(app: App, prefix: DigestPrefix) -> str:
    """The block of an exec that runs here, without its heading; nothing when none does of that name."""
    from reflow.runtime.livework import find_exec

    live, directories = await work_here(app)
    running = [each for each in find_exec(directories, prefix) if each.is_running]
    tasks = [task for each in live for task in each.tasks if prefix.expands_to(task.id)]
    if len(running) != 1 or len(tasks) != 1:
        return ""
    (where,), (task,) = running, tasks
    lines = [
        "\tstate:\trunning"
        if where.tenant.pid or where.tenant.executor == "docker"
        else "\tstate:\tinitializing",
        "\ttype:\texec",
        f"\tident:\t{task.ident}",
        f"\texecutor:\t{where.tenant.executor}",
        f"\tresources:\t{task.resources}",
        f"\tdirectory:\t{where.path}",
        *_processes(where.tenant.pid),
        *_hints(task),
    ]
    return "".join([f"{line}\n" for line in lines])


def _processes(leader: int) -> list[str]:
    from reflow.executor import proctree

    if not leader:
        return []
    pids = sorted([process.pid for process in proctree.tree(leader, proctree.scan())])
    lines = [line.split("\n", 1)[0].expandtabs(1) for line in proctree.command_lines(pids)]
    return ["\ttop:", *[f"\t\t {line}" for line in lines]] if lines else []


def _hints(task: Task) -> list[str]:
    return [
        f"\toutput:\treflow logs -f {task.id.short} (-stdout: the other stream)",
        f"\tinside:\treflow shell {task.uri}",
    ]
