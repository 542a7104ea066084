"""One invocation of the command: global flags, configuration, the command, and how errors end it.

Modules are imported when they are needed: starting up is most of the time of small commands.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from reflow.cli.command import Arguments, Command, Fatal, UsageError, flag_set
from reflow.cli.commands import COMMANDS, load_command
from reflow.cli.globalflag import OVERRIDE_KEYS, global_flags
from reflow.cli.interrupt import CLEANING_UP, Interrupts
from reflow.core.flagset import FlagError
from reflow.runtime.home import default_config_path
from reflow.runtime.log import DEBUG, Log, parse_level

if TYPE_CHECKING:
    from reflow.cli.status import Display
    from reflow.runtime.config import Config

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
_EXIT_BROKEN_PIPE = 141


class OutputClosedError(Exception):
    """Nobody reads stdout any more."""


def _output_error(error: OSError) -> Exception:
    """What ends a command whose output cannot be written; without a reader it ends quietly."""
    if isinstance(error, BrokenPipeError):
        return OutputClosedError()
    return Fatal(f"reflow: stdout cannot be written: {(error.strerror or str(error)).lower()}")


class App:
    """What commands work with: global flags, configuration, log, output."""

    def __init__(self, flags: dict[str, Any]) -> None:
        self.flags = flags
        self.interrupts = Interrupts()
        self.display: Display | None = None
        self.counters: Callable[[], dict[str, Any]] = dict
        self.log = Log(parse_level(flags["log"]), self.write_error)
        self._config: Config | None = None

    @property
    def config(self) -> Config:
        """The configuration, read when first asked for. Raises ConfigError."""
        if self._config is None:
            from reflow.runtime.config import load_config

            overrides = {key: self.flags[key] for key in OVERRIDE_KEYS}
            config = load_config(self.flags["config"], overrides)
            config.values["logger"] = f"logger,level={self.flags['log']}"
            self._config = config
        return self._config

    def check_config(self) -> None:
        """Read the configuration if there is any beyond what is built in, so that its errors show early."""
        path = self.flags["config"]
        has_file = path and (path != default_config_path() or os.path.exists(path))
        if has_file or any(self.flags[key] for key in OVERRIDE_KEYS):
            _ = self.config

    def print(self, text: str) -> None:
        """Write a line to stdout."""
        self.write(text + "\n")

    def write(self, text: str) -> None:
        """Write text to stdout; bytes that are no UTF-8 come out as they were."""
        self.write_bytes(text.encode("utf-8", "surrogateescape"))

    def write_bytes(self, data: bytes) -> None:
        """Write bytes to stdout."""
        try:
            sys.stdout.buffer.write(data)
        except OSError as err:
            raise _output_error(err) from None

    def flush(self) -> None:
        """Hand over what was written to stdout."""
        try:
            sys.stdout.flush()
        except OSError as err:
            raise _output_error(err) from None

    def write_error(self, text: str) -> None:
        """Write whole lines to stderr."""
        if self.display is not None:
            self.display.write(text)
            return
        try:
            sys.stderr.buffer.write(text.encode("utf-8", "surrogateescape"))
            sys.stderr.buffer.flush()
        except OSError:
            pass  # nobody reads it any more: there is nowhere to say so

    def start_display(self) -> Display:
        """Begin to show what goes on, below the output on stderr (not when debugging)."""
        from reflow.cli.status import Display
        from reflow.runtime.status import Status

        if self.display is None:
            if isinstance(sys.stderr, io.TextIOWrapper):
                sys.stderr.reconfigure(errors="surrogateescape")
            self.display = Display(sys.stderr, Status())
            if self.log.level < DEBUG:
                self.display.start()
        return self.display

    def run_async(self, main: Coroutine[Any, Any, int]) -> int:
        """Run a coroutine to its end; the first signal cancels it. CancelledError is then status 1."""
        import asyncio

        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            task = loop.create_task(main)

            def cancel() -> None:
                self.write_error(CLEANING_UP + "\n")
                task.cancel()

            def hand_over() -> None:
                loop.call_soon_threadsafe(cancel)

            async def wait() -> int:
                self.interrupts.on_first(hand_over)
                try:
                    return await task
                except asyncio.CancelledError:
                    return EXIT_FAILED
                finally:
                    self.interrupts.on_first(None)
                    await _close_connections()

            return runner.run(wait())

    def end_display(self) -> None:
        """Show no more of what goes on."""
        if self.display is not None:
            self.display.stop()


async def _close_connections() -> None:
    """Close what is connected, if anything was wired up at all."""
    wiring = sys.modules.get("reflow.runtime.wiring")
    if wiring is not None:
        await wiring.close_connections()


def run(words: list[str]) -> int:
    """Run a command line (without the program's name); return the exit status."""
    if not words:
        from reflow.cli.globalflag import INTRO

        _say(INTRO)
        return EXIT_USAGE
    flags, values = flag_set(global_flags(default_config_path()))
    try:
        rest = flags.parse(words)
    except FlagError as err:
        text = str(err)
        return _global_usage("" if text == "flag: help requested" else text)
    if not rest or rest[0] not in COMMANDS:
        return _global_usage(f"unknown command: {rest[0]}" if rest else "")
    try:
        app = App(values)
    except ValueError as err:
        _say(f"reflow: {err}")
        return EXIT_USAGE
    return _guarded(app, lambda: _command(app, rest[0], rest[1:]))


def _command(app: App, name: str, words: list[str]) -> int:
    if name != "doctor":  # which says itself what is wrong with it
        app.check_config()
    _announce(app)
    command = load_command(name)
    if command.is_hidden:
        return command.run(app, Arguments({}, words))
    try:
        arguments = command.parse(words)
    except (FlagError, UsageError) as err:
        text = str(err)
        return usage(app, command, "" if text == "flag: help requested" else text)
    if arguments["help"]:
        app.write_error(command.help())
        return EXIT_OK
    try:
        return command.run(app, arguments)
    except UsageError as err:
        return usage(app, command, str(err))


def _announce(app: App) -> None:
    if app.log.level >= DEBUG:
        from reflow.version import version_text

        app.log.debug(f"reflow version {version_text()}")


def usage(app: App, command: Command, text: str) -> int:
    """Say what is wrong with a command line and how the command is called; return status 2."""
    app.write_error((f"{text}\n" if text else "") + command.usage())
    return EXIT_USAGE


def _global_usage(text: str) -> int:
    from reflow.cli.globalflag import USAGE

    names = "".join([f"\t{name}\n" for name in sorted(COMMANDS) if name != "batchrun"])
    flags = flag_set(global_flags(default_config_path()))[0].defaults_text()
    lead = f"{text}\n" if text else ""
    _say(f"{lead}{USAGE}\nReflow commands:\n{names}Global flags:\n{flags}".rstrip("\n"))
    return EXIT_USAGE


def _say(text: str) -> None:
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except OSError:
        pass  # nobody reads it any more: there is nowhere to say so


def _discard_stdout() -> None:
    """Let the interpreter's last flush go nowhere instead of failing again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _guarded(app: App, work: Callable[[], int]) -> int:
    """Run the command; turn every exception into a message and a status."""
    app.interrupts.install()
    if any(app.flags[name] for name in ("cpuprofile", "http", "memprofile", "memstatsduration")):
        from reflow.cli.instrument import instrumented

        return instrumented(app, lambda: _finished(app, work))
    return _finished(app, work)


def _finished(app: App, work: Callable[[], int]) -> int:
    try:
        status = work()
        app.end_display()
        app.flush()
        return status
    except OutputClosedError:
        app.end_display()
        _discard_stdout()
        return _EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        app.end_display()
        app.write_error(CLEANING_UP + "\n")
        return EXIT_FAILED
    except Exception as err:  # noqa: BLE001  (the outermost loop: everything ends as a message)
        from reflow.cli.failure import explain

        app.end_display()
        text, status = explain(err)
        app.write_error(text + "\n")
        return status


__all__ = ["App", "Arguments", "OutputClosedError", "run", "usage"]
