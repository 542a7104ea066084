"""``reflow images``: the images that a program's execs name, and those that are unpacked on this machine."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal, UsageError
from reflow.cli.failure import EXIT_USAGE, explain
from reflow.runtime.home import home

if TYPE_CHECKING:
    from reflow.imagestore import Kept
    from reflow.imagestore.store import ImageStore

_DETAILS = """\
Images prints the images of a program's execs, sorted, one a line. What follows the program are its
parameters, as for "reflow run".

With -store it lists the images that are unpacked below $REFLOW_HOME/images, for execs that run without a
Docker daemon: name, id, size, where it came from, and when it was last used. An image without a name is used
by its digest. "reflow collect" removes those that were not used lately.

With -load it takes the images of an archive, as "docker save" writes it, into the store; - is standard input.
An archive that does not name its image needs a NAME after the file."""

_ID_DIGITS = 12


def run(app: App, arguments: Arguments) -> int:
    """Print a program's images, or list or fill the store."""
    path, words = arguments["load"], arguments.words
    if not path and not arguments["store"]:
        return _program(app, words)
    if path and arguments["store"]:
        raise UsageError("images: -store and -load do not go together")
    if len(words) > (1 if path else 0):
        raise UsageError(f"images: unexpected argument: {words[-1]}")
    return _load(app, path, words[0] if words else "") if path else _list(app)


def _program(app: App, words: list[str]) -> int:
    """Instantiate the program and print its images; wrong parameters are wrong usage here."""
    from reflow.lang.module_store import default_store
    from reflow.lang.program import UsageError as ParameterError
    from reflow.lang.program import instantiate
    from reflow.lang.session import Session

    if not words:
        raise UsageError("images: got no arguments, want at least 1 argument")
    session = Session(store=default_store())
    try:
        instantiate(words[0], words[1:], session)
    except ParameterError as err:
        raise Fatal(explain(err)[0], EXIT_USAGE) from err
    for image in session.images():
        app.print(image)
    return 0


def _store(app: App) -> ImageStore:
    from reflow.imagestore.store import ImageStore

    return ImageStore(os.path.join(home(), "images"), inform=app.log.info)


def _list(app: App) -> int:
    from reflow.cli.output import clock_text, tabulate
    from reflow.core.units import format_size

    rows = _store(app).kept()
    lines = []
    for row in rows:
        used = "in use" if row.is_used else f"used {clock_text(datetime.fromtimestamp(row.used_s, UTC))}"
        size = format_size(row.size_bytes)
        lines.append(f"{_names(row)}\t{_short_id(row)}\t{size}\t{row.source}\t{used}\n")
    images = "1 image" if len(rows) == 1 else f"{len(rows)} images"
    lines.append(f"total\t{images}\t{format_size(sum([row.size_bytes for row in rows]))}\n")
    app.write(tabulate("".join(lines)))
    return 0


def _load(app: App, path: str, name: str) -> int:
    from reflow.core.units import format_size

    group = app.start_display().status.group("images")
    line = group.row("load", f"reading {path}")

    def progress(what: str, done: int, total: int) -> None:
        group.update(line, f"{what} ({100 * done // total}%)" if total else what)

    async def load() -> int:
        store = _store(app)
        try:
            rows = await store.load(path, name, progress=progress)
        finally:
            await store.close()
            app.end_display()
        for row in rows:
            app.print(f"loaded {_names(row)} {_short_id(row)} ({format_size(row.size_bytes)})")
            if not row.names:
                app.log.info(
                    f"image {_short_id(row)} has no name: load it again with a NAME to use it by one"
                )
        return 0

    return app.run_async(load())


def _names(row: Kept) -> str:
    from reflow.imagestore.name import parse_image

    return ", ".join([parse_image(name).familiar for name in row.names]) or "<no name>"


def _short_id(row: Kept) -> str:
    return row.id.partition(":")[2][:_ID_DIGITS]


COMMAND = Command(
    "images",
    "images [-store | -load file [name] | path [module flags]]",
    _DETAILS,
    run,
    flags=[
        ("load", "string", "", "take the images of this archive into the image store"),
        ("store", "bool", "false", "list the images of the image store"),
    ],
    max_words=None,
)
