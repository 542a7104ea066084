"""Programs: a module made with a command line's parameters, and its ``Main``.

What the command line and the runner call. Source: runtime/eval.go, Eval.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from reflow.core.errors import Kind, ReflowError
from reflow.flow.node import Flow
from reflow.lang.diagnostic import EvalError
from reflow.lang.flags import ModuleFlags, UsageError, parse_flags
from reflow.lang.force import force
from reflow.lang.module import Module
from reflow.lang.print_value import show
from reflow.lang.session import Session, extension_of
from reflow.lang.source_module import SourceModule
from reflow.lang.types import Type
from reflow.lang.value import Value

__all__ = ["Program", "UsageError", "flag_names", "instantiate", "load"]

_EXTENSIONS = (".rf", ".rfx")


class Program:
    """An instantiated program.

    ``path`` is as it is shown in messages. ``params`` are texts of the parameters by name, sorted; ``args``
    the words after the program. ``main`` is forced: an immediate value, or a flow when something is to be
    computed. ``images`` are those of the execs built so far. ``bundle`` makes the program's archive (.rfx).
    """

    def __init__(
        self,
        path: str,
        args: Sequence[str],
        module: Module,
        params: Mapping[str, str],
        main: Value,
        main_type: Type,
        images: Sequence[str],
        bundle: Callable[[], bytes],
    ) -> None:
        self.path = path
        self.args = list(args)
        self.module = module
        self.params = dict(params)
        self.main = main
        self.main_type = main_type
        self.images = list(images)
        self.bundle = bundle

    @property
    def is_immediate(self) -> bool:
        """Whether nothing is left to compute."""
        return not isinstance(self.main, Flow)

    def text(self, value: Value) -> str:
        """A value of `Main` as ``run`` prints it."""
        return show(value, self.main_type)


def load(path: str, argv: Sequence[str], session: Session, *, make_absolute: bool) -> Program:
    """Open a program, make it with the flags in ``argv``, and force its Main.

    Raises SourceError, EvalError, ReflowError, or UsageError for flags that are wrong or missing.
    """
    _check_extension(path)
    if make_absolute:
        path = os.path.abspath(path)
    module, values, params = instantiate(path, argv, session)
    main_type = _main_type(module)
    with _deep_and_quick(path):
        main = _forced(path, values["Main"], main_type)
    bundle = partial(_bundle, session, module.path)
    return Program(path, argv, module, params, main, main_type, session.images(), bundle)


def _bundle(session: Session, path: str) -> bytes:
    """A program with all that it makes; one that was opened from an archive is that archive."""
    if extension_of(path) == ".rfx":
        return session.sources[path]
    from reflow.lang.bundle import archive, make_bundle

    return archive(make_bundle(session.sources, path, None))


def _check_extension(path: str) -> None:
    extension = extension_of(path)
    if extension == ".reflow":
        raise ReflowError(
            Kind.NOT_SUPPORTED,
            cause=f"{path} is written in the older language (.reflow), which is not supported yet",
        )
    if extension not in _EXTENSIONS:
        raise ReflowError(Kind.OTHER, cause=f'unknown file extension "{extension}"')


def _main_type(module: Module) -> Type:
    type = module.type.field("Main")
    if type is None:
        raise ReflowError(Kind.OTHER, cause="module has no Main")
    return type


def flag_names(path: str, session: Session) -> frozenset[str]:
    """Open a program and return the names of its parameters that a command line can give.

    Raises as `load` does, but for what the values of parameters bring about.
    """
    _check_extension(path)
    with _deep_and_quick(path):
        module = session.open(path)
        _main_type(module)
        return module.flags(session).names() if isinstance(module, SourceModule) else frozenset()


def instantiate(
    path: str, argv: Sequence[str], session: Session
) -> tuple[Module, Mapping[str, Value], Mapping[str, str]]:
    """Open a module and make it with the flags in ``argv``: the module, its values, texts of its parameters.

    Raises as `load` does; needs no Main.
    """
    with _deep_and_quick(path):
        module = session.open(path)
        flags = module.flags(session) if isinstance(module, SourceModule) else ModuleFlags(())
        parse_flags(flags, path, argv)
        return module, module.make(session, flags.values()), flags.texts()


def _forced(path: str, main: Value, type: Type) -> Value:
    try:
        return force(main, type)
    except EvalError as err:
        raise EvalError(f"{path}: Main: {err}") from err


@contextmanager
def _deep_and_quick(path: str) -> Iterator[None]:
    """No cyclic collector, which would walk the tree again and again; too deep a recursion is an error."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    except RecursionError:
        raise EvalError(f"{path}: evaluation is nested too deeply") from None
    finally:
        if was_enabled:
            gc.enable()
