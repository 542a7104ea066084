"""The texts about why something was executed, for ``why`` and ``run -n``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from reflow.cli.output import ctime_text
from reflow.core.units import format_size
from reflow.eval.explain import VERDICT_TEXTS, Verdict
from reflow.eval.keyparts import Change, FileRow
from reflow.runtime.explain import FAILED, UNFINISHED
from reflow.runtime.explainread import Entry
from reflow.runtime.reason import Earlier, Reason, Reasons

_SHOWN_FILES = 10
_SHOWN_LINES = 40
_SHOWN_GROUPS = 30
_EXAMINED = 2000
"""Nodes of which the summary finds out reasons; each costs a look into the record."""


def summary_lines(reasons: Reasons, entries: Sequence[Entry], *, is_full: bool) -> Iterator[str]:
    """How many nodes of each name were executed, by reason."""
    groups: dict[tuple[str, str], list[Reason]] = {}
    examined = entries if is_full else entries[:_EXAMINED]
    for entry in examined:
        reason = reasons.reason(entry, is_exact=False)
        name = reason.node.ident or reason.node.parts.op
        groups.setdefault((name, headline(reason)), []).append(reason)
    width = max([len(name) for name, _ in groups], default=0)
    shown = list(groups.items()) if is_full else list(groups.items())[:_SHOWN_GROUPS]
    for (name, text), members in shown:
        yield f"  {name:<{width}} {len(members):>5}  {text}"
    left = len(groups) - len(shown)
    if left or len(examined) < len(entries):
        yield f"  and {left} more groups of {len(entries)} nodes (-all shows them)"


def headline(reason: Reason) -> str:
    """Why something was executed, in one line."""
    verdict = reason.entry.verdict
    if verdict is Verdict.NOT_FOUND:
        return reason.title
    if verdict is Verdict.CACHE_OFF and (reason.changes or reason.earlier is None):
        return f"{reason.title}; {VERDICT_TEXTS[verdict]}"
    return VERDICT_TEXTS[verdict]


def reason_lines(reasons: Reasons, entry: Entry, *, verb: str = "was executed") -> Iterator[str]:
    """Everything about one node: what was decided, what it was compared with, and what differs."""
    reason = reasons.reason(entry)
    node = reason.node
    if entry.verdict.is_hit:
        yield f"{node.label} came from the cache: {VERDICT_TEXTS[entry.verdict]}"
        yield f"  at {node.position}"
        return
    if not entry.verdict.is_executed:
        verb = "was not executed"
    yield f"{node.label} {verb}: {headline(reason)}"
    task = "" if entry.task is None else f", task {entry.task.short}"
    yield f"  at {node.position}{task}"
    if entry.verdict is not Verdict.NOT_FOUND or entry.detail:
        yield f"  {VERDICT_TEXTS[entry.verdict]}{': ' + entry.detail if entry.detail else ''}"
    image = reasons.run.facts.settings.get("images", {}).get(node.parts.image)
    if image is not None and image != node.parts.image:
        yield f"  image {node.parts.image} is {image}"
    if entry.outcome == FAILED:
        yield f"  it failed: {' '.join(entry.error.split())}"
    elif entry.outcome == UNFINISHED and entry.task is not None:
        yield "  it did not come to its end"
    if reason.earlier is not None:
        yield f"  {_earlier_text(reasons, reason.earlier)}"
    elif reason.nearest is not None:
        nearest = reason.nearest
        yield f"  the nearest earlier one is {nearest.label}, first met {_clock(nearest.first_us)}:"
        for change in reason.changes:
            yield from _change_lines(reasons, reason, change)
    elif entry.verdict in (Verdict.NOT_FOUND, Verdict.CACHE_OFF):
        yield "  nothing of this name or with this command was met before on this machine"


def _earlier_text(reasons: Reasons, earlier: Earlier) -> str:
    """What the run before had, that this one did not find."""
    facts, now = earlier.run.facts, reasons.run.facts.settings
    then = facts.settings
    lead = f"with the very same key run {facts.id.short}, {_clock(facts.start_us)},"
    if earlier.entry.outcome == FAILED:
        return f"{lead} had it fail: {' '.join(earlier.entry.error.split())}"
    if earlier.entry.outcome == UNFINISHED:
        return f"{lead} did not finish it"
    if then["executor"] != now["executor"] and "process" in (then["executor"], now["executor"]):
        return (
            f"{lead} got it under the executor {then['executor']};"
            f" what this machine's own tools make is kept apart from what images make"
        )
    if then["cache"] not in ("write", "readwrite") and not earlier.entry.verdict.is_hit:
        return f"{lead} executed it, but wrote nothing to the cache (-cache={then['cache']})"
    how = "took it from the cache" if earlier.entry.verdict.is_hit else "executed it"
    return f"{lead} {how}"


def _clock(start_us: int) -> str:
    return ctime_text(datetime.fromtimestamp(start_us / 1e6, UTC))


def _change_lines(reasons: Reasons, reason: Reason, change: Change) -> Iterator[str]:
    yield f"  {change.title}:"
    for line in change.lines[:_SHOWN_LINES]:
        yield f"    {line}"
    if len(change.lines) > _SHOWN_LINES:
        yield f"    and {len(change.lines) - _SHOWN_LINES} lines more"
    causes: dict[int, Entry] = {}
    for index, file in enumerate(change.files[:_SHOWN_FILES]):
        origin = reasons.origin(reason, change, index)
        if file.then is not None:
            yield f"    - {_file_text(file.then)}  {origin.then}".rstrip()
        if file.now is not None:
            yield f"    + {_file_text(file.now)}  {origin.now}".rstrip()
        if origin.cause is not None and not origin.cause.verdict.is_hit:
            causes.setdefault(origin.cause.number, origin.cause)
    if len(change.files) > _SHOWN_FILES:
        yield f"    and {len(change.files) - _SHOWN_FILES} files more"
    for cause in list(causes.values())[:_SHOWN_FILES]:
        before = reasons.reason(cause)
        if before.entry.verdict.is_executed:
            yield f"    {before.node.label} was executed as well: {headline(before)}"


def _file_text(row: FileRow) -> str:
    path = "" if row.path == "." else f"{row.path} "
    return f"{path}{row} {format_size(row.size)}"
