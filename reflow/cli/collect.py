"""``reflow collect``: remove what was not used. Source: tool/collect.go."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, UsageError
from reflow.core.units import format_size
from reflow.runtime.config import not_supported
from reflow.runtime.home import home

if TYPE_CHECKING:
    from reflow.runtime.collect import Collector, CollectRequest

_DETAILS = """\
Collect removes what the cache has not used since a date: entries of the index, and objects that no remaining
entry needs. It only tells what it would remove, unless -dry-run=false is given.

A filter (-keep, -labels) is a list of regular expressions that are searched in an entry's labels: a blank
means or, a comma and, a leading ! not. Every entry has the label user=USER of who made it; the key labels
of the configuration adds others.

Whatever the threshold, what was of use within the last day stays, and so does what a run that is under way
may use. Older logs of runs go, too, and what execs left behind: directories of failed ones, and files with
their output; and unpacked images ("reflow images -store")."""

_DAY_S = 86400.0


def run(app: App, arguments: Arguments) -> int:
    """Collect, or tell what would be collected."""
    threshold_s = _threshold(arguments["threshold"])
    matchers = (_matcher("keep", arguments["keep"]), _matcher("labels", arguments["labels"]))
    return app.run_async(_collect(app, arguments, threshold_s, *matchers))


def _threshold(text: str) -> float:
    """Read a date (UTC) or a number of days before now, as Unix seconds. Raises UsageError."""
    if text.endswith("d") and text[:-1].isdigit():
        try:
            return (datetime.now().astimezone() - timedelta(days=int(text[:-1]))).timestamp()
        except OverflowError:
            return 0.0
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise UsageError(
            f"invalid -threshold {text}: want YYYY-MM-DD or a number of days such as 15d"
        ) from None


def _matcher(flag: str, text: str) -> Callable[[frozenset[str]], bool]:
    """A filter of labels; an empty one matches nothing. Raises UsageError."""
    from reflow.core.fileset import path_bytes
    from reflow.lang.diagnostic import EvalError
    from reflow.lang.regex import Regex

    try:
        alternatives = [
            [
                (not word.startswith("!"), Regex(path_bytes(word.removeprefix("!"))))
                for word in words.split(",")
            ]
            for words in text.split()
        ]
    except EvalError as err:
        raise UsageError(f"invalid -{flag}: {err}") from err

    def matches(labels: frozenset[str]) -> bool:
        texts = [path_bytes(label) for label in labels]
        return any(
            all(any(regex.is_match(each) for each in texts) is wanted for wanted, regex in clauses)
            for clauses in alternatives
        )

    return matches


async def _collect(
    app: App,
    arguments: Arguments,
    threshold_s: float,
    is_kept: Callable[[frozenset[str]], bool],
    is_dead: Callable[[frozenset[str]], bool],
) -> int:
    from reflow.cli.working import work_here
    from reflow.repository.filerepo import FileRepository
    from reflow.runtime.collect import Collector, CollectRequest
    from reflow.runtime.wiring import has_assoc, has_taskdb, open_assoc, open_repository, open_taskdb

    request = CollectRequest(
        threshold_s, is_kept, is_dead, arguments["dry-run"], arguments["migrate-fs-max-attempts"]
    )
    if threshold_s > time.time() - _DAY_S:
        app.log.info("what was of use within the last day stays")
    live, directories = await work_here(app)
    repository = open_repository(app.config)
    assoc = open_assoc(app.config) if has_assoc(app.config) else None
    taskdb = open_taskdb(app.config) if has_taskdb(app.config) else None
    try:
        if not isinstance(repository, FileRepository):
            raise not_supported(f"collect with the repository {repository.url}")
        collector = Collector(request, repository, assoc, taskdb, live, app.log, time.time())
        await _collect_stores(app, request, collector)
        for directory in directories:
            _collect_leftovers(app, directory, collector.limit_s, dry_run=request.dry_run)
        _collect_images(app, collector.limit_s, dry_run=request.dry_run)
    finally:
        await repository.close()
        for each in (assoc, taskdb):
            if each is not None:
                await each.close()
    return 0


async def _collect_stores(app: App, request: CollectRequest, collector: Collector) -> None:
    await collector.scan()
    counts = collector.counts
    app.log.info(
        f"Scanned {counts.scanned} associations, found {counts.live} live associations,"
        f" {counts.live_objects} live objects, {counts.missing} objects not in repository"
    )
    entries = await collector.collect_entries()
    objects = await collector.collect_objects()
    done = _done(request.dry_run)
    app.log.info(
        f"{objects.removed} of {objects.objects} objects ({_percent(objects.removed, objects.objects)})"
        f" and {objects.removed_bytes} bytes {done} collected"
    )
    app.log.info(
        f"{entries.removed} of {entries.entries} associations ({_percent(entries.removed, entries.entries)})"
        f" {done} collected ({entries.matched} associations matched the dead set)"
    )
    if counts.migrated:
        app.log.info(f"{counts.migrated} associations of the old format were written anew")


def _collect_leftovers(app: App, directory: str, limit_s: float, *, dry_run: bool) -> None:
    from reflow.runtime.collect import collect_leftovers

    found = collect_leftovers(directory, limit_s, dry_run=dry_run)
    if found.directories or found.outputs:
        app.log.info(
            f"{found.directories} directories of failed execs and {found.outputs} outputs of execs"
            f" ({format_size(found.size)}) {_done(dry_run)} collected"
        )


def _collect_images(app: App, limit_s: float, *, dry_run: bool) -> None:
    root = os.path.join(home(), "images")
    if not os.path.isdir(root):
        return
    from reflow.imagestore.store import ImageStore

    rows = ImageStore(root).collect(limit_s, dry_run=dry_run)
    if rows:
        size = format_size(sum([row.size_bytes for row in rows]))
        app.log.info(f"{len(rows)} images ({size}) {_done(dry_run)} collected")


def _done(dry_run: bool) -> str:
    return "would have been" if dry_run else "were"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole if whole else 0:.2f}%"


COMMAND = Command(
    "collect",
    "collect [-threshold date] [-keep regexp] [-labels labels]",
    _DETAILS,
    run,
    flags=[
        ("dry-run", "bool", "true", "only tell what would be removed"),
        ("keep", "string", "", "filter of entries that stay whatever their age"),
        ("labels", "string", "", "filter of entries that go whatever their age"),
        ("migrate-fs-max-attempts", "int", "5000", "filesets of the old format to upgrade: 0 none, -1 all"),
        ("rate", "int", "300", "writes per second, at most, to an index that others share; here no effect"),
        ("threshold", "string", "YYYY-MM-DD", "a date, or a number of days such as 15d"),
    ],
)
