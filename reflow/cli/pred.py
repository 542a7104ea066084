"""``reflow pred``: what is known of execs that are alike, and what it predicts. Source: tool/pred.go."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal, UsageError
from reflow.cli.output import rfc3339, tabulate
from reflow.core.digest import Digest
from reflow.core.units import format_size

if TYPE_CHECKING:
    from reflow.core.execconfig import Profile
    from reflow.eval.predict import PredictorConfig
    from reflow.runtime.predictor import Group

_COLUMNS = (
    ("i", "number of the task, in the order of their begin"),
    ("N", "how often the figure was taken"),
    ("max", "greatest of these"),
    ("mean", "their mean"),
    ("var", "their variance"),
    ("first", "when it was taken first"),
    ("last", "when it was taken last"),
)
_DETAILS = (
    """\
Pred shows what tasks of the past used, that predictions are made from. Names are identifiers of execs
(align.sort), or ids of image and command together (sha256:…).

For each name, and for each figure that was taken, it prints a table:
"""
    + "\n".join([f"\t{name:<6} {meaning}" for name, meaning in _COLUMNS])
    + """

With -name it shows that figure only, and what it predicts: mem (memory) or duration. At most as many tasks
count as the configuration says (predictorconfig: maxinspect), or -maxinspect."""
)

_SIZES = ("mem", "disk", "tmp")
_PREDICTED = ("mem", "duration")


def run(app: App, arguments: Arguments) -> int:
    """Print profiles by name; status 1 when there are none for some name."""
    from reflow.runtime.predictorconfig import predictor_config
    from reflow.runtime.wiring import has_taskdb

    if arguments["name"] not in ("", *_PREDICTED):
        raise UsageError(f"invalid name: {arguments['name']} (must be one of: {', '.join(_PREDICTED)})")
    overrides = {"max_inspect": arguments["maxinspect"]} if arguments["maxinspect"] > 0 else {}
    config = predictor_config(app.config, **overrides)
    if config is None:
        raise Fatal("missing predictor config: the key predictor is not set")
    if app.config.provider("taskdb") in ("", "noptaskdb"):
        raise Fatal("pred needs taskdb: the key taskdb is not set")
    if not has_taskdb(app.config):
        raise Fatal("no data: no task was recorded yet")
    return app.run_async(_show_all(app, arguments, config))


async def _show_all(app: App, arguments: Arguments, config: PredictorConfig) -> int:
    from reflow.runtime.predictor import Predictor
    from reflow.runtime.wiring import open_taskdb

    taskdb = open_taskdb(app.config)
    assert taskdb is not None
    predictor = Predictor(taskdb, config)
    failures = 0
    try:
        for word in arguments.words:
            profiles = await predictor.profiles(_group(word))
            if isinstance(profiles, str):
                app.log.error(f"invalid param {word}: {profiles}")
            elif not profiles:
                app.log.error(f"no data for param {word}")
            else:
                app.write(tabulate(_text(word, profiles, arguments["name"], config)))
                continue
            failures += 1
    finally:
        await taskdb.close()
    return 1 if failures else 0


def _group(word: str) -> Group:
    from reflow.runtime.predictor import Group

    if word.startswith("sha256:"):
        try:
            return Group(image_cmd_id=Digest.parse(word))
        except ValueError as err:
            raise Fatal(f"invalid param {word}: {err}") from err
    return Group(ident=word)


def _text(word: str, profiles: Sequence[Profile], name: str, config: PredictorConfig) -> str:
    figures = sorted({figure for profile in profiles for figure, entry in profile.items() if entry.n > 1})
    parts = [f"predictor profiles for arg:  {word}\n"]
    parts += [_table(figure, profiles) for figure in figures if name in ("", figure)]
    if name:
        parts.append(_prediction(word, profiles, name, config))
    return "".join(parts)


def _table(figure: str, profiles: Sequence[Profile]) -> str:
    lines = ["\t".join([f"{figure}:", *[column for column, _ in _COLUMNS]])]
    known = [profile[figure] for profile in profiles if figure in profile]
    known.sort(key=lambda entry: entry.first or datetime.min.replace(tzinfo=UTC))
    for index, entry in enumerate(known):
        if entry.n < 2:
            continue
        if figure in _SIZES:
            values = [format_size(entry.max), format_size(entry.mean), f"{entry.var:f}"]
        else:
            values = [f"{entry.max:5.1f}", f"{entry.mean:5.1f}", f"{entry.var:5.1f}"]
        times = [rfc3339(time) if time is not None else "" for time in (entry.first, entry.last)]
        lines.append("\t".join(["", str(index), str(entry.n), *values, *times]))
    return "\n".join(lines) + "\n\n"


def _prediction(word: str, profiles: Sequence[Profile], name: str, config: PredictorConfig) -> str:
    from reflow.eval.predict import duration_percentile, mem_percentile

    estimate = (mem_percentile if name == "mem" else duration_percentile)(profiles, config.mem_percentile)
    value = format_size(estimate.value) if name == "mem" else f"{estimate.value:f}"
    return f"predicted {name} value for arg {word} = {value} (from {estimate.number} samples)\n\n"


COMMAND = Command(
    "pred",
    "pred names...",
    _DETAILS,
    run,
    flags=[
        ("maxinspect", "int", "0", "look at this many earlier execs; 0: as configured"),
        ("name", "string", "", "what to predict: mem or duration"),
    ],
    min_words=1,
    max_words=None,
)
