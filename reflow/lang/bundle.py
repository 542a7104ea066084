"""Bundles (``.rfx``): a program, the modules it makes, and arguments for its parameters, in one archive.

A ZIP archive: one entry per distinct source, named by its digest; last the entry ``manifest``, a line of
JSON. Paths are those that the bundled program's modules were opened by. Wire format: the original reads what
we write and the other way round.
Source: syntax/bundle.go.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from reflow.core.digest import Digest
from reflow.core.errors import Kind, ReflowError
from reflow.lang.fserror import describe

MANIFEST = "manifest"
MAX_ENTRY_BYTES = 64 << 20
_EARLIEST = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What an archive holds. ``paths`` tells which source each path has.

    ``entry_directory`` is the directory that the entry module was opened from; ``args`` are the flags for
    its parameters, None when none were given.
    """

    entrypoint: Digest
    entry_directory: str
    args: Sequence[str] | None
    paths: Mapping[str, Digest]
    contents: Mapping[Digest, bytes]

    def read(self, path: str) -> bytes:
        """The source at a path. Raises ReflowError."""
        digest = self.paths.get(path)
        if digest is None:
            raise ReflowError(Kind.OTHER, cause="file does not exist")
        if digest not in self.contents:
            raise ReflowError(Kind.OTHER, cause=f"invalid bundle: file {path} ({digest}) is missing")
        return self.contents[digest]

    def entry(self) -> bytes:
        """The source of the entry module. Raises ReflowError."""
        if self.entrypoint not in self.contents:
            raise ReflowError(Kind.OTHER, cause="invalid bundle: entrypoint module is missing")
        return self.contents[self.entrypoint]


def make_bundle(sources: Mapping[str, bytes], entry: str, args: Sequence[str] | None) -> Bundle:
    """A bundle of sources by path; ``entry`` is one of the paths."""
    paths = {path: Digest.of(source) for path, source in sources.items()}
    contents = {paths[path]: source for path, source in sources.items()}
    directory = entry.rpartition("/")[0] or ("/" if entry.startswith("/") else ".")
    return Bundle(paths[entry], directory, args, paths, contents)


class _Opened(Protocol):
    """A module, as far as it is needed here."""

    path: str

    def inject(self, session: Any, words: Sequence[str]) -> None:
        """Take arguments."""
        ...


class _Session(Protocol):
    """A session, as far as it is needed here."""

    @property
    def sources(self) -> Mapping[str, bytes]:
        """Sources of the modules opened."""
        ...

    def open(self, path: str, importer_dir: str = "") -> Any:
        """Open a module."""
        ...


def write_bundle(session: _Session, path_out: str | None, entry: str, args: Sequence[str]) -> None:
    """Open a module in a fresh session and write it with all that it makes, its parameters set by ``args``.

    Without ``path_out`` the file is the module's name with an ``x``, in the working directory. The file is
    complete or not there. Raises SourceError, EvalError, UsageError, ReflowError.
    """
    name = entry.rpartition("/")[2]
    extension = name[name.rfind(".") :] if "." in name else ""
    if extension != ".rf":
        raise ReflowError(Kind.OTHER, cause=f"extension {extension} not supported for bundling")
    module: _Opened = session.open(entry)
    module.inject(session, args)
    data = archive(make_bundle(session.sources, module.path, args))
    target = path_out or name + "x"
    scratch = f"{target}.{os.getpid()}.part"
    try:
        with open(scratch, "wb") as stream:
            stream.write(data)
        os.replace(scratch, target)
    except OSError as err:
        with suppress(OSError):
            os.unlink(scratch)
        raise ReflowError(Kind.OTHER, cause=describe(err, target)) from err


def archive(bundle: Bundle) -> bytes:
    """The bytes of a bundle's archive; the same for the same bundle."""
    import zipfile

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for digest in sorted(bundle.contents):
            made.writestr(_entry_info(str(digest)), bundle.contents[digest], zipfile.ZIP_DEFLATED)
        made.writestr(_entry_info(MANIFEST), _manifest(bundle), zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _entry_info(name: str) -> Any:
    import zipfile

    info = zipfile.ZipInfo(name, _EARLIEST)
    info.external_attr = 0o644 << 16
    return info


def _manifest(bundle: Bundle) -> bytes:
    """The manifest as the original's encoder writes it."""
    fields = {
        "Entrypoint": str(bundle.entrypoint),
        "EntrypointPath": bundle.entry_directory,
        "Args": None if bundle.args is None else list(bundle.args),
        "Files": {path: str(bundle.paths[path]) for path in sorted(bundle.paths)},
    }
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode("utf-8", "replace") + b"\n"


def read_archive(data: bytes) -> Bundle:
    """Read an archive. Raises ReflowError; entries with unexpected names are left out."""
    import zipfile
    import zlib

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            entries = {info.filename: _read_entry(opened, info) for info in opened.infolist()}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as err:
        raise _invalid("zip: not a valid zip file") from err
    manifest = entries.pop(MANIFEST, None)
    if manifest is None:
        raise _invalid("bundle is missing manifest")
    contents = {}
    for name, content in entries.items():
        digest = _digest(name)
        if digest is not None:
            contents[digest] = content
    return _from_manifest(manifest, contents)


def _read_entry(opened: Any, info: Any) -> bytes:
    if info.file_size > MAX_ENTRY_BYTES:
        size = f"{info.file_size} bytes, the limit is {MAX_ENTRY_BYTES}"
        raise _invalid(f"invalid bundle: entry {info.filename} has {size}")
    content: bytes = opened.read(info)
    return content


def _digest(text: object) -> Digest | None:
    try:
        return Digest.parse(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _from_manifest(manifest: bytes, contents: Mapping[Digest, bytes]) -> Bundle:
    try:
        fields = json.loads(manifest)
    except ValueError as err:
        raise _invalid(f"invalid bundle: the manifest is no JSON: {err}") from err
    entrypoint = _digest(fields.get("Entrypoint")) if isinstance(fields, dict) else None
    if entrypoint is None:
        raise _invalid("invalid bundle: entrypoint module is missing")
    args = fields.get("Args")
    files = fields.get("Files") or {}
    directory = fields.get("EntrypointPath") or ""
    is_valid = (
        (args is None or (isinstance(args, list) and all(isinstance(word, str) for word in args)))
        and isinstance(files, dict)
        and isinstance(directory, str)
    )
    paths = {path: _digest(digest) for path, digest in files.items()} if is_valid else {}
    if not is_valid or None in paths.values():
        raise _invalid("invalid bundle: the manifest has values of the wrong kind")
    return Bundle(entrypoint, directory, args, {path: each for path, each in paths.items() if each}, contents)


def _invalid(text: str) -> ReflowError:
    return ReflowError(Kind.OTHER, cause=text)
