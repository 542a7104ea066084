"""The nodes: one class per operation.

Nodes are immutable but for ``ident``, which naming may set once, and the memo of their digest.
``pos`` is anything whose ``str`` is a source position. Build them with their constructors; take
digests with `reflow.flow.digest`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from reflow.core.digest import Digest
from reflow.core.fileset import Fileset
from reflow.core.resources import NO_RESOURCES, Resources
from reflow.flow.data import LocalFile

LazyDigest = Digest | Callable[[], Digest]
Continuation = Callable[[list[Any]], "Flow"]


class Flow:
    """A node: what it depends on, and what names it for people."""

    __slots__ = ("_digest", "deps", "ident", "pos")

    op: ClassVar[str]
    digest_name: ClassVar[bytes]

    def __init__(self, deps: Sequence[Flow], ident: str = "", pos: object = "") -> None:
        self.deps: tuple[Flow, ...] = tuple(deps)
        self.ident = ident
        self.pos = pos
        self._digest: Digest | None = None

    def __repr__(self) -> str:
        return f"<{self.op} {self.ident or '?'} {len(self.deps)} deps>"


class Tagged(Flow):
    """A node that is told from others of its kind by a tag; computed only when asked for."""

    __slots__ = ("_tag",)

    _tag: LazyDigest | None

    @property
    def tag(self) -> Digest:
        """The tag. Asserts that there is one."""
        tag = self._tag
        assert tag is not None, "invalid flow digest"
        if not isinstance(tag, Digest):
            tag = self._tag = tag()
        return tag


class ArgRef:
    """One ``%s`` of an exec's command: output ``index``, or the dependency ``index``."""

    __slots__ = ("index", "is_output")

    def __init__(self, index: int, *, is_output: bool) -> None:
        self.index = index
        self.is_output = is_output

    def __repr__(self) -> str:
        return f"{'out' if self.is_output else 'in'}{self.index}"


class Exec(Flow):
    """Run a command in an image. Dependencies evaluate to filesets; the value is a list of filesets.

    ``argmap`` is None in legacy programs only: then dependency i is argument i. ``arg_names`` are
    display names such as ``{{bam}}``, ``output_names`` the declared names by output index.
    """

    __slots__ = (
        "arg_names",
        "argmap",
        "cmd",
        "extra_digest",
        "image",
        "is_nondeterministic",
        "output_is_dir",
        "output_names",
        "resources",
    )
    op = "exec"
    digest_name = b"OpExec"

    def __init__(
        self,
        image: str,
        cmd: str,
        deps: Sequence[Flow] = (),
        *,
        argmap: Sequence[ArgRef] | None = None,
        arg_names: Sequence[str] = (),
        output_names: Sequence[str] = (),
        output_is_dir: Sequence[bool] = (),
        resources: Resources = NO_RESOURCES,
        is_nondeterministic: bool = False,
        extra_digest: Digest | None = None,
        ident: str = "",
        pos: object = "",
    ) -> None:
        super().__init__(deps, ident, pos)
        self.image = image
        self.cmd = cmd
        self.argmap = None if argmap is None else tuple(argmap)
        self.arg_names = tuple(arg_names)
        self.output_names = tuple(output_names)
        self.output_is_dir = tuple(output_is_dir)
        self.resources = resources
        self.is_nondeterministic = is_nondeterministic
        self.extra_digest = extra_digest

    @property
    def arguments(self) -> tuple[ArgRef, ...]:
        """The argument map; in legacy programs every dependency in order."""
        if self.argmap is not None:
            return self.argmap
        return tuple(ArgRef(i, is_output=False) for i in range(len(self.deps)))


class Intern(Flow):
    """Bring in the object or the tree at a URL. ``must_intern``: a reference will not do."""

    __slots__ = ("must_intern", "url")
    op = "intern"
    digest_name = b"OpIntern"

    def __init__(self, url: str, *, must_intern: bool = False, ident: str = "", pos: object = "") -> None:
        super().__init__((), ident, pos)
        self.url = url
        self.must_intern = must_intern


class Extern(Flow):
    """Put the dependency's files at a URL."""

    __slots__ = ("url",)
    op = "extern"
    digest_name = b"OpExtern"

    def __init__(self, url: str, dep: Flow, *, ident: str = "", pos: object = "") -> None:
        super().__init__((dep,), ident, pos)
        self.url = url


class Groupby(Flow):
    """Group a mapping's files by the only group of a regular expression (legacy)."""

    __slots__ = ("pattern",)
    op = "groupby"
    digest_name = b"OpGroupby"

    def __init__(self, pattern: str, dep: Flow, *, ident: str = "", pos: object = "") -> None:
        super().__init__((dep,), ident, pos)
        self.pattern = pattern


class Map(Flow):
    """Apply a function to each member of a list (legacy). ``body`` is it applied to an empty fileset."""

    __slots__ = ("body", "fn")
    op = "map"
    digest_name = b"OpMap"

    def __init__(self, fn: Callable[[Flow], Flow], dep: Flow, *, ident: str = "", pos: object = "") -> None:
        super().__init__((dep,), ident, pos)
        self.fn = fn
        self.body = fn(Val(Fileset()))


class Collect(Flow):
    """Keep the paths that match, renamed (legacy)."""

    __slots__ = ("pattern", "replacement")
    op = "collect"
    digest_name = b"OpCollect"

    def __init__(
        self, pattern: str, replacement: str, dep: Flow, *, ident: str = "", pos: object = ""
    ) -> None:
        super().__init__((dep,), ident, pos)
        self.pattern = pattern
        self.replacement = replacement


class Merge(Flow):
    """A list of the dependencies' values (legacy)."""

    __slots__ = ()
    op = "merge"
    digest_name = b"OpMerge"


class Pullup(Flow):
    """One mapping of all dependencies' files (legacy)."""

    __slots__ = ()
    op = "pullup"
    digest_name = b"OpPullup"


class Val(Tagged):
    """A value that is there already: a fileset, any value of the language, or an error.

    A value that is no fileset needs a ``tag``: the digest of the value at its type.
    """

    __slots__ = ("error", "value")
    op = "val"
    digest_name = b"OpVal"

    def __init__(
        self,
        value: Any = None,
        tag: LazyDigest | None = None,
        *,
        error: BaseException | None = None,
        ident: str = "",
        pos: object = "",
    ) -> None:
        super().__init__((), ident, pos)
        self.value = value
        self._tag = tag
        self.error = error


class K(Tagged):
    """A continuation: given the dependencies' values it returns the node to go on with.

    ``fn`` may raise (the node fails) and may be called more than once. ``affected`` marks execs whose
    cache key misses an argument (the original's bug T41260), for display only.
    """

    __slots__ = ("affected", "fn")
    op = "k"
    digest_name = b"OpK"

    def __init__(
        self,
        fn: Continuation,
        deps: Sequence[Flow],
        tag: LazyDigest,
        *,
        ident: str = "",
        pos: object = "",
        affected: bool = False,
    ) -> None:
        super().__init__(deps, ident, pos)
        self.fn = fn
        self._tag = tag
        self.affected = affected


class Kctx(K):
    """A continuation whose digest name differs, as in the original (exec repetition)."""

    __slots__ = ()
    op = "kctx"
    digest_name = b"Op(14)"


class Coerce(Tagged):
    """A function of the dependency's value; it may raise."""

    __slots__ = ("fn",)
    op = "coerce"
    digest_name = b"OpCoerce"

    def __init__(
        self,
        fn: Callable[[Any], Any],
        dep: Flow,
        tag: LazyDigest,
        *,
        ident: str = "",
        pos: object = "",
    ) -> None:
        super().__init__((dep,), ident, pos)
        self.fn = fn
        self._tag = tag


class Requires(Flow):
    """The dependency's value, with a hint of the machine it needs. Its digest is the dependency's."""

    __slots__ = ("minimum", "width")
    op = "requirements"
    digest_name = b"OpRequirements"

    def __init__(
        self, dep: Flow, minimum: Resources, width: int = 0, *, ident: str = "", pos: object = ""
    ) -> None:
        super().__init__((dep,), ident, pos)
        self.minimum = minimum
        self.width = width


class Data(Flow):
    """A file made of bytes that the program holds, or of a file of this machine."""

    __slots__ = ("content",)
    op = "data"
    digest_name = b"maxOp"

    def __init__(self, content: bytes | LocalFile, *, ident: str = "", pos: object = "") -> None:
        super().__init__((), ident, pos)
        self.content = content


External = Exec | Intern | Extern
"""What is done outside of us: what has a key in the cache, or an effect."""

EXTERNAL = (Exec, Intern, Extern)


def label(flow: Flow, ident: str) -> None:
    """Name a node and everything below it that has no name yet. An empty name names nothing."""
    if not ident or flow.ident:
        return
    stack = [flow]
    while stack:
        node = stack.pop()
        if node.ident:
            continue
        node.ident = ident
        stack.extend(node.deps)


def strip_qualifiers(image: str) -> tuple[str, bool, bool]:
    """Split an image as written: its name, whether it wants AWS credentials, whether Docker."""
    name = image.replace("$aws", "").replace("$docker", "")
    return name, "$aws" in image, "$docker" in image
