"""Sessions: where modules are opened, and what a program tells and needs while it is evaluated.

One session serves one command: it opens each module once, hands out system modules, counts warnings, and
remembers the images of execs and the local files that the program reads.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.core.units import format_size
from reflow.flow.data import LocalFile
from reflow.lang.builtins.registry import PREFIX, system_module
from reflow.lang.bundle import Bundle, read_archive
from reflow.lang.fserror import describe
from reflow.lang.module import Module, Opener
from reflow.lang.module_store import ModuleStore, Recorder, module_key
from reflow.lang.source import Pos, Source
from reflow.lang.source_module import Checked, SourceModule
from reflow.lang.tree_codec import CodecError, decode, encode

MAX_SOURCE_BYTES = 4 << 20
MAX_BUNDLE_BYTES = 64 << 20

_MOST_FAILED_OPENS = 100

Tell = Callable[[str], None]


class Sourcer(Protocol):
    """Where the texts of modules come from."""

    def read(self, path: str) -> bytes:
        """The bytes at a path. Raises ReflowError."""
        ...


class FileSourcer:
    """Modules are files of this machine."""

    def read(self, path: str) -> bytes:
        """The file's bytes; a file that is too large is refused by size, without reading it."""
        limit = MAX_BUNDLE_BYTES if path.endswith(".rfx") else MAX_SOURCE_BYTES
        try:
            with open(path, "rb", opener=_open_file) as stream:
                size = os.fstat(stream.fileno()).st_size
                source = stream.read(limit + 1) if size <= limit else b""
        except ValueError as err:
            raise ReflowError(Kind.OTHER, cause=f"open {path!r}: invalid argument") from err
        except OSError as err:
            raise ReflowError(Kind.OTHER, cause=describe(err, path)) from err
        if max(size, len(source)) > limit:
            found = format_size(max(size, len(source)))
            raise ReflowError(
                Kind.OTHER, cause=f"module {path} has {found}, the limit is {format_size(limit)}"
            )
        return source


def _open_file(path: str, flags: int) -> int:
    """Open a file, without waiting for one that is a pipe. Raises ReflowError for what is no file."""
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return handle  # a directory is refused by name when it is opened as a stream
    os.close(handle)
    raise ReflowError(Kind.OTHER, cause=f"module {path} is no regular file")


class Session:
    """``warn`` is told warnings, ``note`` remarks, ``trace`` what ``trace(…)`` shows; each line by line.

    Warnings count only where somebody is told. ``store`` keeps checked modules for later sessions. Use from
    one thread.
    """

    def __init__(
        self,
        *,
        sourcer: Sourcer | None = None,
        warn: Tell | None = None,
        note: Tell | None = None,
        trace: Tell | None = None,
        store: ModuleStore | None = None,
    ) -> None:
        self._sourcer = sourcer if sourcer is not None else FileSourcer()
        self._warn = warn
        self._note = note
        self._trace = trace
        self._store = store
        self._identities: dict[Module, Digest] = {}
        self._modules: dict[str, Module] = {}
        self._failures: dict[str, Exception] = {}
        self._failed_opens = 0
        self._sources: dict[str, bytes] = {}
        self._opening: list[str] = []
        self._images: set[str] = set()
        self._local_files: dict[str, LocalFile] = {}
        self._parent: Session | None = None
        self.warnings = 0

    # --------------------------------------------------------------------------------- what is told

    def warn(self, pos: Pos | str, text: str) -> None:
        """Tell of something suspicious at a place."""
        if self._warn is not None:
            self._warn(f"{pos}: warning: {text}")
            self.warnings += 1

    def note(self, text: str) -> None:
        """Tell something that is no warning and no result."""
        if self._note is not None:
            self._note(text)

    def trace(self, line: str) -> None:
        """Show a traced value."""
        if self._trace is not None:
            self._trace(line)

    def see_image(self, image: str) -> None:
        """Note the image of an exec that was built."""
        self._images.add(image)

    def images(self) -> list[str]:
        """Images seen so far, sorted."""
        return sorted(self._images)

    def local_file(self, path: str) -> LocalFile:
        """The local file at a path, the same object each time. Raises OSError when it is not there."""
        if self._parent is not None:
            return self._parent.local_file(path)
        known = self._local_files.get(path)
        if known is None:
            known = self._local_files[path] = LocalFile(path, os.stat(path))
        return known

    @property
    def local_files(self) -> list[LocalFile]:
        """All local files met so far, in order."""
        return list(self._local_files.values())

    # -------------------------------------------------------------------------------------- modules

    @property
    def sources(self) -> Mapping[str, bytes]:
        """The sources of the modules opened, by the path they were opened by; system modules have none."""
        return self._sources

    def open(self, path: str, importer_dir: str = "") -> Module:
        """Open a module: parse and check it, unless that was done before.

        ``$/x`` is a system module; ``./x`` is relative to the directory of the importing module, any other
        path to the working directory (or the bundle). Raises SourceError with the module's errors, or
        ReflowError.
        """
        if path.startswith(PREFIX):
            return _system(path)
        if path.startswith("./"):
            path = clean_path(f"{importer_dir}/{path}" if importer_dir else path)
        known = self._modules.get(path)
        if known is not None:
            return known
        if path in self._opening:
            cycle = " -> ".join([*self._opening[self._opening.index(path) :], path])
            raise ReflowError(Kind.OTHER, cause=f"modules make each other in a circle: {cycle}")
        if path in self._failures:
            raise self._failures[path]
        source = self._sourcer.read(path)
        self._opening.append(path)
        try:
            module = self._load(path, source)
        except Exception as err:
            self._note_failure(path, err)
            raise
        finally:
            self._opening.pop()
        self._modules[path] = module
        self._sources[path] = source
        return module

    def _note_failure(self, path: str, failure: Exception) -> None:
        """Remember that a module has errors, once that happened often: modules that make each other twice
        would be looked through twice, four times, eight times and so on. (The original does just that, and
        warns each time.)
        """
        self._failed_opens += 1
        if self._failed_opens > _MOST_FAILED_OPENS:
            self._failures[path] = failure

    def _load(self, path: str, source: bytes) -> Module:
        extension = extension_of(path)
        match extension:
            case ".rf":
                stem = path.rpartition("/")[2].removesuffix(".rf")
                return self._module(path, source, directory_of(path), stem)
            case ".rfx":
                return self._bundle(path, read_archive(source))
            case ".reflow":
                raise ReflowError(
                    Kind.NOT_SUPPORTED,
                    cause=f"{path} is written in the older language; only .rf and .rfx can be opened",
                )
            case _:
                raise ReflowError(Kind.OTHER, cause=f"unknown module extension {extension}")

    def identity(self, module: Module) -> Digest:
        """Names an opened module, what it was made from, and all modules that it makes."""
        known = self._identities.get(module)
        return known if known is not None else Digest.of_text(module.path)

    def _module(self, path: str, source: bytes, directory: str, prefix: str) -> SourceModule:
        """A module from its text, or from what was stored when it was checked before."""
        key = module_key(path, source, directory)
        recorder = Recorder(self)
        text = Source(path, source.decode("utf-8", "surrogateescape"))
        load = self._stored(key, text, directory, recorder)
        if load is None:
            checked = self._checked(key, text, directory, recorder)
            module = SourceModule(path, lambda: checked, prefix)
        else:
            module = SourceModule(path, load, prefix)
        self._identities[module] = recorder.identity(key)
        return module

    def _stored(
        self, key: Digest, text: Source, directory: str, recorder: Recorder
    ) -> Callable[[], Checked] | None:
        """Reads what was stored under a key, if the modules that it makes are still the same.

        That is not done before somebody needs more than to know that nothing is wrong with the module.
        """
        if self._store is None:
            return None
        try:
            found = self._store.load(key)
            if found is not None and recorder.replay(found[0]):
                return lambda: self._decoded(found[1], key, text, directory, recorder)
        except Exception:  # noqa: BLE001  (a record that cannot be read in whatever way is none)
            pass
        recorder.start_over()
        return None

    def _decoded(self, data: bytes, key: Digest, text: Source, directory: str, recorder: Recorder) -> Checked:
        try:
            return decode(data, text, recorder.modules)
        except Exception:  # noqa: BLE001  (a record that cannot be read in whatever way is none)
            recorder.start_over()
            return self._checked(key, text, directory, recorder)

    def _checked(self, key: Digest, text: Source, directory: str, recorder: Recorder) -> Checked:
        from reflow.lang.check import check_module
        from reflow.lang.parse import parse_module

        tree = parse_module(text, recorder.note)
        info = check_module(tree, recorder, directory)
        if self._store is not None:
            with suppress(CodecError, ValueError, RecursionError):
                self._store.save(key, recorder.events, encode(tree, info, recorder.modules))
        return tree, info

    def _bundle(self, path: str, bundle: Bundle) -> SourceModule:
        """The entry module of a bundle, opened in a session of its own that reads from the bundle."""
        inner = Session(sourcer=bundle, note=self._note, trace=self._trace, store=self._store)
        inner._parent = self
        inner._opening = [f"{path}:"]
        module = inner._module(path, bundle.entry(), bundle.entry_directory, "")
        module.inject(inner, bundle.args or ())
        self._identities[module] = Digest.of(inner.identity(module) + repr(bundle.args).encode())
        return module


def _system(path: str) -> Module:
    name = path.removeprefix(PREFIX)
    module = system_module(name)
    if module is None:
        raise ReflowError(Kind.OTHER, cause=f"no system module named {name}")
    return module


def clean_path(path: str) -> str:
    """The shortest path to the same place, without looking at the file system."""
    cleaned = os.path.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def directory_of(path: str) -> str:
    """The directory part of a path, cleaned; ``.`` without one."""
    head = path.rpartition("/")[0]
    return clean_path(head) if head else "/" if path.startswith("/") else "."


def extension_of(path: str) -> str:
    """From the last dot of the last element on."""
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    return name[dot:] if dot >= 0 else ""


if TYPE_CHECKING:
    _opener: type[Opener] = Session
    _sourcer: type[Sourcer] = FileSourcer
    _bundle: type[Sourcer] = Bundle
