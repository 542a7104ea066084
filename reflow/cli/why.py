"""``reflow why``: why the nodes of a run were executed, or where their values came from."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal
from reflow.cli.output import ctime_text
from reflow.core.digest import DigestPrefix

if TYPE_CHECKING:
    from reflow.runtime.explainread import Entry, Reader, RecordedRun

_DETAILS = """\
Why tells for execs of a run (and for what was brought in or copied elsewhere) whether the value came from the
cache, and if not, what has changed since the nearest earlier one: the image, the command, an input, and for
an input which of its files and where that came from.

RUN is the id of a run, or its beginning; by default the latest. NAME is an identifier (align.Sort, or
just Sort; * stands for anything), or the beginning of the id of a flow or task, as task lines have them.
Without a NAME all that was executed is listed, by reason.

	$ reflow why Sort

What is compared with is recorded by every run on this machine. "reflow run -n" tells the same before a
run, of what would be executed."""

_SHOWN_NODES = 20
_HINT = "reflow why NAME tells what has changed and where it came from"


def run(app: App, arguments: Arguments) -> int:
    """Print what is known of a run, or of some of its nodes."""
    from reflow.runtime.explain import explain_database

    database = explain_database()
    if not os.path.exists(database.path):
        raise Fatal(f"no decisions are recorded in {database.path}: nothing was run yet")
    try:
        lines = database.call(lambda connection: _answer(connection, arguments))
    finally:
        database.close()
    app.write("".join([f"{line}\n" for line in lines]))
    return 0


def _answer(connection: sqlite3.Connection, arguments: Arguments) -> list[str]:
    from reflow.cli.reasontext import reason_lines, summary_lines
    from reflow.runtime.explainread import Reader
    from reflow.runtime.reason import Reasons

    reader = Reader(connection)
    recorded, names = _pick_run(reader, arguments.words)
    reasons = Reasons(reader, recorded)
    lines = [run_line(recorded)]
    if not names:
        executed = [entry for entry in recorded.entries.values() if entry.verdict.is_executed]
        lines += summary_lines(reasons, executed, is_full=arguments["all"])
        return [*lines, _HINT] if executed else lines
    entries = [recorded.entries[number] for name in names for number in _named(reader, recorded, name)]
    entries = list(dict.fromkeys(entries))
    if not arguments["all"]:
        # Of many nodes of one name those are of interest that were executed.
        shown = [entry for entry in entries if entry.verdict.is_executed] or entries
        shown = shown[:_SHOWN_NODES]
    else:
        shown = entries
    for entry in shown:
        lines += reason_lines(reasons, entry)
    if len(entries) > len(shown):
        lines.append(_rest_text([entry for entry in entries if entry not in set(shown)]))
    return lines


def _rest_text(entries: Sequence[Entry]) -> str:
    """What is said of nodes that are not shown."""
    found = sum(entry.verdict.is_hit for entry in entries)
    return f"and {len(entries)} more, {found} of them from the cache (-all shows them)"


def _pick_run(reader: Reader, words: Sequence[str]) -> tuple[RecordedRun, Sequence[str]]:
    """The run that is meant, and the names that follow it."""
    prefix = _prefix(words[0]) if words else None
    if prefix is not None:
        found = reader.runs(prefix)
        if len(found) > 1:
            ids = ", ".join([each.facts.id.hex()[:16] for each in found[:5]])
            raise Fatal(f"{len(found)} runs have ids that begin with {words[0]}: {ids}")
        if found:
            return found[0], words[1:]
    latest = reader.latest()
    if latest is None:
        raise Fatal("no decisions are recorded: nothing was run yet")
    return latest, words


def _prefix(word: str) -> DigestPrefix | None:
    try:
        return DigestPrefix.parse(word)
    except ValueError:
        return None


def _named(reader: Reader, recorded: RecordedRun, name: str) -> Iterator[int]:
    """Nodes of a run that a name stands for. Raises Fatal when there is none."""
    prefix = _prefix(name)
    is_found = False
    for number, ident, flow in reader.idents(recorded.numbers):
        task = recorded.entries[number].task
        if (
            ident == name
            or ident.endswith(f".{name}")
            or ("*" in name and fnmatchcase(ident, name))
            or (prefix is not None and (prefix.expands_to(flow) or (task and prefix.expands_to(task))))
        ):
            is_found = True
            yield number
    if not is_found:
        known = Counter(ident for _, ident, _ in reader.idents(recorded.numbers))
        some = ", ".join(sorted(known)[:10]) or "nothing"
        raise Fatal(f"run {recorded.facts.id.short} has no {name}; it has {some}{_more(known)}")


def _more(known: Counter[str]) -> str:
    return f", and {len(known) - 10} more" if len(known) > 10 else ""


def run_line(recorded: RecordedRun) -> str:
    """Which run it is, and how much of it came from the cache."""
    facts = recorded.facts
    verdicts = [entry.verdict for entry in recorded.entries.values()]
    found, executed = sum(each.is_hit for each in verdicts), sum(each.is_executed for each in verdicts)
    began = ctime_text(datetime.fromtimestamp(facts.start_us / 1e6, UTC))
    where = f"executor {facts.settings['executor']}, cache {facts.settings['cache']}"
    done = f"{found} from the cache, {executed} executed"
    return f"run {facts.id.short} of {facts.program}, {began}, {where}: {done}"


COMMAND = Command(
    "why",
    "why [-all] [run] [names...]",
    _DETAILS,
    run,
    flags=[("all", "bool", "false", f"show all nodes, not only the first {_SHOWN_NODES}")],
    max_words=None,
)
