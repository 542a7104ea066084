"""``reflow collect``: remove what was not used. Source: tool/collect.go."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal, UsageError
from reflow.core.units import format_size
from reflow.runtime.home import home

if TYPE_CHECKING:
    from reflow.runtime.collect import Collector, CollectRequest, Scope

_DETAILS = """\
Collect removes what the cache has not used since a date: entries of the index, and objects that no remaining
entry needs. It only tells what it would remove, unless -dry-run=false is given.

A filter (-keep, -labels) is a list of regular expressions that are searched in an entry's labels: a blank
means or, a comma and, a leading ! not. Every entry has the label user=USER of who made it; the key labels
of the configuration adds others.

Whatever the threshold, what was of use within the last day stays, and so does what a run that is under way
may use. Older logs of runs go, too, and what execs left behind: directories of failed ones, and files with
their output; and unpacked images ("reflow images -store").

Of stores that are shared (an S3 bucket, a DynamoDB table) collect removes entries first, at -rate, then
objects that were stored before the threshold and that nothing refers to: no entry, and no row of the task
database, however old. It then does the same with this machine's copies. It may be interrupted, and called
again."""

_DAY_S = 86400.0


def run(app: App, arguments: Arguments) -> int:
    """Collect, or tell what would be collected."""
    threshold_s = _threshold(arguments["threshold"])
    matchers = (_matcher("keep", arguments["keep"]), _matcher("labels", arguments["labels"]))
    if arguments["rate"] <= 0:
        raise UsageError(f"invalid -rate {arguments['rate']}: want more than 0")
    from reflow.runtime.collect import CollectRequest

    request = CollectRequest(
        threshold_s,
        *matchers,
        dry_run=arguments["dry-run"],
        migrations=arguments["migrate-fs-max-attempts"],
        rate=arguments["rate"],
    )
    return app.run_async(_collect(app, arguments, request))


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


async def _collect(app: App, arguments: Arguments, request: CollectRequest) -> int:
    from reflow.cli.working import work_here
    from reflow.runtime.collectscope import is_shared, local_scope

    now_s = time.time()
    if request.threshold_s > now_s - _DAY_S:
        app.log.info("what was of use within the last day stays")
    live, directories = await work_here(app)
    has_bucket = is_shared(app.config)
    if has_bucket:
        await _collect_shared(app, request, now_s, has_records=not arguments["no-taskdb"])
    async with local_scope(app.config, live, request, now_s) as scope:
        collector = await _collect_stores(app, request, scope, now_s, is_front=has_bucket)
        for directory in directories:
            _collect_leftovers(app, directory, collector.limit_s, dry_run=request.dry_run)
        _collect_images(app, collector.limit_s, dry_run=request.dry_run)
    return 0


async def _collect_shared(app: App, request: CollectRequest, now_s: float, *, has_records: bool) -> None:
    from reflow.runtime.collectscope import shared_scope

    if has_records and app.config.provider("taskdb") != "dynamodbtask":
        _need_records(app, dry_run=request.dry_run)
    async with shared_scope(app.config, request, now_s) as (scope, objects):
        collector = await _collect_stores(app, request, scope, now_s, is_front=False)
        uploads = await objects.collect_uploads(collector.limit_s, dry_run=request.dry_run)
    if uploads.removed:
        app.log.info(
            f"{uploads.removed} unfinished uploads ({format_size(uploads.removed_bytes)})"
            f" {_done(request.dry_run)} collected"
        )
    if objects.strangers:
        app.log.info(f"{objects.strangers} keys below objects/ are no digests; they stay")
    await _tell_versions(app)


def _need_records(app: App, *, dry_run: bool) -> None:
    """Logs of runs in the bucket look like garbage to whoever does not see the rows that refer to them."""
    text = (
        "no shared task database is configured: if one keeps its logs, graphs and bundles in this bucket,"
        " they would count as garbage"
    )
    if not dry_run:
        raise Fatal(
            f"collect: {text}; configure it (taskdb: dynamodbtask), or say -no-taskdb if there is none"
        )
    app.log.info(f"{text}: configure it, or say -no-taskdb if there is none")


async def _tell_versions(app: App) -> None:
    from reflow.runtime.noncurrent import tell_noncurrent
    from reflow.runtime.setup_call import Cloud
    from reflow.runtime.wiring import aws_session, required

    cloud = Cloud(aws_session(), app.log.info)
    for line in await asyncio.to_thread(tell_noncurrent, cloud, required(app.config, "repository", "bucket")):
        app.log.info(line)


async def _collect_stores(
    app: App, request: CollectRequest, scope: Scope, now_s: float, *, is_front: bool
) -> Collector:
    """Collect, and tell what was done. ``is_front``: copies of this machine of what is in a bucket."""
    from reflow.runtime.collect import Collector

    collector = Collector(request, scope, app.log, now_s)
    await collector.scan()
    if not is_front:
        counts = collector.entries
        app.log.info(
            f"Scanned {counts.scanned} associations, found {counts.live} live associations,"
            f" {counts.live_objects} live objects, {counts.missing} objects not in repository"
        )
    await collector.collect_objects()
    for line in _report(collector, dry_run=request.dry_run, is_front=is_front):
        app.log.info(line)
    return collector


def _report(collector: Collector, *, dry_run: bool, is_front: bool) -> Iterator[str]:
    """Lines about what was removed; a dry run counts what may be in use, too, and says so."""
    counts, objects, done = collector.entries, collector.objects, _done(dry_run)
    held = (counts.held, objects.held, objects.held_bytes) if dry_run else (0, 0, 0)
    removed, size = objects.removed + held[1], objects.removed_bytes + held[2]
    where = " of this machine" if is_front else ""
    yield (
        f"{removed} of {objects.objects} objects{where} ({_percent(removed, objects.objects)})"
        f" and {size} bytes {done} collected"
    )
    if not is_front or counts.scanned:
        removed = counts.removed + held[0]
        matched = counts.matched + (counts.held_matched if dry_run else 0)
        yield (
            f"{removed} of {counts.scanned} associations{where} ({_percent(removed, counts.scanned)})"
            f" {done} collected ({matched} associations matched the dead set)"
        )
    if counts.held or objects.held:
        stay = "of these, " if dry_run else ""
        yield (
            f"{stay}{counts.held} associations and {objects.held} objects ({format_size(objects.held_bytes)})"
            f" may be in use, or were within the last day: they {'would stay' if dry_run else 'stay'}"
        )
    if objects.recorded and not is_front:
        yield f"{objects.recorded} further objects are of the record of runs: they stay"
    if counts.migrated:
        yield f"{counts.migrated} associations of the old format were written anew"
    if counts.revived:
        yield f"{counts.revived} associations were used while they were removed, and are there again"
    if counts.undone:
        yield f"{counts.undone} associations were written meanwhile that relied on removed objects; they went"


def _collect_leftovers(app: App, directory: str, limit_s: float, *, dry_run: bool) -> None:
    from reflow.runtime.leftovers import collect_leftovers

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
        ("no-taskdb", "bool", "false", "no task database keeps its logs in the bucket"),
        ("rate", "int", "300", "writes per second, at most, to an index that others share"),
        ("threshold", "string", "YYYY-MM-DD", "a date, or a number of days such as 15d"),
    ],
)
