"""What is logged when an external node starts and ends: one line, and a block of details.

Everything is a function of the node, what was submitted for it, and what is known afterwards.
Source: flow/eval.go, (*Eval).LogFlow and statusPrinters; flow/strutil.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from reflow.core.digest import Digest, digest_text
from reflow.core.execconfig import ExecConfig, ExecInspect, InputArg, OutputArg, ProfileEntry
from reflow.core.fileset import EMPTY_FILESET, Fileset
from reflow.core.units import format_duration, format_size
from reflow.flow.digest import digest
from reflow.flow.node import Exec, Extern, External, Intern

COMMAND_WIDTH = 60
IMAGE_WIDTH = 40

_NOT_SPACE_IN_GO = "\x1c\x1d\x1e\x1f"
_NO_SAMPLES = ProfileEntry(0, 0, 0, 0)


def start_line(flow: External, config: ExecConfig) -> str:
    """The line that says that a node runs now."""
    return f" ->  {_head(flow, 'exec')}{describe(flow, config)}"


def finish_line(flow: External, value: Fileset | None, runtime_s: float, *, cached: bool = False) -> str:
    """The line that says that a node has its value, after ``runtime_s`` seconds or from the cache."""
    arrow = "(<-) " if cached else " <-  "
    return f"{arrow}{_head(flow, 'ok')}{_outcome(value, runtime_s)}"


def start_details(flow: External, config: ExecConfig, keys: Sequence[Digest], uri: str) -> str:
    """The message that follows a start line; empty for an extern."""
    return _details(flow, config, keys, _start_block(flow, config, uri))


def finish_details(
    flow: External,
    config: ExecConfig,
    keys: Sequence[Digest],
    uri: str,
    value: Fileset,
    inspect: ExecInspect | None,
) -> str:
    """The message that follows the finish line of a node that succeeded; empty for an extern."""
    block = list(_start_block(flow, config, uri))
    if isinstance(flow, Exec):
        block += [*_log_places(inspect), "result:", *_outputs(config, value), *_profile(inspect)]
    else:
        block += ["result:", *fileset_lines(value, "    ")]
    return _details(flow, config, keys, block)


def failure(
    flow: External,
    config: ExecConfig,
    error: BaseException,
    uri: str,
    inspect: ExecInspect | None,
    stdout: Iterable[str] = (),
    stderr: Iterable[str] = (),
) -> str:
    """The message that says that a node has failed; ``stdout`` and ``stderr`` are lines of its output."""
    runtime_s = 0.0 if inspect is None else inspect.runtime_s
    value = None if inspect is None else EMPTY_FILESET
    lines = [f" <-  {_head(flow, 'err')}{_outcome(value, runtime_s)}", f"\terror {error}", f"\t{flow.pos}"]
    if isinstance(flow, Exec):
        block = [*_start_block(flow, config, uri)]
        block += ["stdout:", *(f"    {line}" for line in stdout)]
        block += ["stderr:", *(f"    {line}" for line in stderr)]
        if inspect is not None and inspect.directory:
            block.append(f"directory: {inspect.directory}")
        lines += [f"\t{line}" for line in [*block, *_profile(inspect)]]
    return "\n".join(lines)


def describe(flow: External, config: ExecConfig) -> str:
    """What a node does, short: image and command, or URL (and size)."""
    match flow:
        case Exec():
            return f"{abbreviate_left(config.image, IMAGE_WIDTH)} {abbreviated_command(flow)}"
        case Intern():
            return abbreviate_left(flow.url, COMMAND_WIDTH)
        case Extern():
            size = sum(arg.fileset.size() for arg in config.args if isinstance(arg, InputArg))
            return f"{abbreviate_left(flow.url, COMMAND_WIDTH)} {format_size(size)}"


def _head(flow: External, state: str) -> str:
    return f"{flow.ident:<12} {digest(flow).short} {state:<4} {flow.op:>6} "


def _outcome(value: Fileset | None, runtime_s: float) -> str:
    size = "?" if value is None else format_size(value.size())
    return f"{format_duration(runtime_s)} {size}"


def _details(flow: External, config: ExecConfig, keys: Sequence[Digest], block: Iterable[str]) -> str:
    if isinstance(flow, Extern):
        return ""
    lines = [f"{flow.ident} {digest(flow).short} {flow.pos}:"]
    if isinstance(flow, Exec):
        lines.append(f"\tresources: {config.resources}")
    lines += [f"\t{key}" for key in keys]
    lines += [f"\t{line}" for line in block]
    return "\n".join(lines)


def _start_block(flow: External, config: ExecConfig, uri: str) -> Iterator[str]:
    """Where an exec runs, in what, its command and its inputs."""
    if not isinstance(flow, Exec):
        return
    if uri:
        yield uri
    yield config.image
    yield "command:"
    for line in dedent(shown_command(flow).split("\n")):
        yield f"    {line}"
    yield "where:"
    seen: set[str] = set()
    for name, arg in zip(flow.arg_names, config.args, strict=False):
        if isinstance(arg, InputArg) and name not in seen:
            seen.add(name)
            yield f"    {name} = "
            yield from fileset_lines(arg.fileset, "        ")


def _outputs(config: ExecConfig, value: Fileset) -> Iterator[str]:
    """The files of each output, by the name that the command has for it."""
    members = value.flatten()
    seen: set[int] = set()
    for name, arg in zip(config.arg_names, config.args, strict=False):
        if isinstance(arg, OutputArg) and arg.index not in seen and arg.index < len(members):
            seen.add(arg.index)
            yield f"    {name} ="
            yield from fileset_lines(members[arg.index], "        ")


def _log_places(inspect: ExecInspect | None) -> Iterator[str]:
    """Where the output of a finished exec is."""
    if inspect is None:
        return
    for name, stored, path in (
        ("stdout", inspect.stdout, inspect.stdout_path),
        ("stderr", inspect.stderr, inspect.stderr_path),
    ):
        if stored is not None:
            yield f"{name}: {stored}"
        elif path:
            yield f"{name} location: {path}"


def _profile(inspect: ExecInspect | None) -> Iterator[str]:
    yield "profile:"
    profile = {} if inspect is None else inspect.profile
    for name in ("cpu", "mem", "disk", "tmp"):
        entry = profile.get(name, _NO_SAMPLES)
        seconds = 0.0
        if entry.first is not None and entry.last is not None:
            seconds = (entry.last - entry.first).total_seconds() + 0.5
        samples = f"(N={entry.n}, duration={format_duration(seconds)})"
        if name == "cpu":
            yield f"    cpu mean={entry.mean:.1f} max={entry.max:.1f} {samples}"
        else:
            yield f"    {name} mean={format_size(entry.mean)} max={format_size(entry.max)} {samples}"


def fileset_lines(fileset: Fileset, indent: str) -> Iterator[str]:
    """``PATH DIGEST SIZE`` per file in byte order, members of a list below ``list[I]:``.

    Those of a large fileset are one text, a tab before each but the first.
    """
    if fileset.is_large:
        lines = partial(_fileset_lines, fileset, indent)
        yield fileset.remembered(f"lines {len(indent)}", lambda: "\n\t".join(lines()))
    else:
        yield from _fileset_lines(fileset, indent)


def _fileset_lines(fileset: Fileset, indent: str) -> Iterator[str]:
    for index, member in enumerate(fileset.members or ()):
        yield f"{indent}list[{index}]:"
        yield from fileset_lines(member, indent + "  ")
    if fileset.members:
        return
    for path in fileset.sorted_paths():
        file = fileset.files[path]
        yield f"{indent}{path} {digest_text(file.id)} {format_size(file.size)}"


def shown_command(flow: Exec) -> str:
    """The command as a person wrote it: names for arguments, single percent signs."""
    return command_text(flow.cmd, flow.arg_names)


def command_text(cmd: str, names: Iterable[str]) -> str:
    """A printf-style command with names for its arguments."""
    following = iter(names)
    pieces = cmd.split("%%")
    for number, piece in enumerate(pieces):
        head, *rest = piece.split("%s")
        pieces[number] = head + "".join([next(following, "%s") + part for part in rest])
    return "%".join(pieces)


def abbreviated_command(flow: Exec) -> str:
    """The command on one line of at most 60 bytes."""
    command = _strip(shown_command(flow))
    return abbreviate(collapse_spaces(trim_path(command)), COMMAND_WIDTH)


def abbreviate(text: str, width: int) -> str:
    """Cut the middle out of a text that has more than ``width`` bytes."""
    raw = text.encode("utf-8", "surrogateescape")
    if len(raw) <= width:
        return text
    keep = width // 2 - 1
    return (raw[:keep] + b".." + raw[len(raw) - keep :]).decode("utf-8", "replace")


def abbreviate_left(text: str, width: int) -> str:
    """Cut the beginning off a text that has more than ``width`` bytes."""
    raw = text.encode("utf-8", "surrogateescape")
    if len(raw) <= width:
        return text
    return (b".." + raw[len(raw) - width + 2 :]).decode("utf-8", "replace")


def collapse_spaces(text: str) -> str:
    """Each run of white space becomes what it starts with: a blank, or ``.`` for anything else."""
    out: list[str] = []
    was_space = False
    for char in _strip(text):
        is_space = _is_space(char)
        if not is_space:
            out.append(char)
        elif not was_space:
            out.append(" " if char == " " else ".")
        was_space = is_space
    return "".join(out)


def trim_path(text: str) -> str:
    """``..`` and the base name, for a text that begins with an absolute path."""
    before = text
    while text.startswith("/"):
        slash = text.find("/", 1)
        # The last character of a name is not looked at: so it has always been.
        if slash < 0 or any(map(_is_space, text[1 : slash - 1])):
            return ".." + (before if text == "/" else text)
        before, text = text, text[slash:]
    return text


def dedent(lines: Sequence[str]) -> list[str]:
    """Without blank lines at both ends, and without the indentation that all others share."""
    kept = list(lines)
    while kept and not _strip(kept[0]):
        del kept[0]
    while kept and not _strip(kept[-1]):
        del kept[-1]
    if len(kept) == 1:
        return [_strip(kept[0])]
    kept = [line.rstrip() for line in kept]
    prefix = _indentation(kept[0]) if kept else ""
    for line in filter(None, kept):
        if not line.startswith(prefix):
            own = _indentation(line)
            prefix = own if prefix.startswith(own) else ""
    return [line.removeprefix(prefix) for line in kept]


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _is_space(char: str) -> bool:
    return char.isspace() and char not in _NOT_SPACE_IN_GO


def _strip(text: str) -> str:
    start, end = 0, len(text)
    while start < end and _is_space(text[start]):
        start += 1
    while end > start and _is_space(text[end - 1]):
        end -= 1
    return text[start:end]
