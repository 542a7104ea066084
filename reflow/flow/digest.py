"""Names of nodes: logical digests (of what is to be computed) and physical ones (of concrete inputs).

Both are wire formats: a cache filled by the original is hit by us and the other way round. The
logical digest of a node is computed once, from its dependencies' digests, without recursion.
Source: flow/flow.go, (*Flow).WriteDigest and PhysicalDigests.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from hashlib import sha256

from reflow.core.digest import WIRE_HEADER, Digest
from reflow.core.fileset import Fileset
from reflow.flow.data import LocalFile
from reflow.flow.node import (
    ArgRef,
    Coerce,
    Collect,
    Data,
    Exec,
    Extern,
    Flow,
    Groupby,
    Intern,
    K,
    Map,
    Requires,
    Tagged,
    Val,
)

_universe = b""
_DELAYED = (K, Coerce)


def set_universe(text: str) -> None:
    """Set the namespace that is mixed into the logical digests computed from now on (``-universe``)."""
    global _universe
    _universe = text.encode("utf-8", "surrogateescape")


def universe() -> str:
    """The namespace that logical digests are computed in; empty unless one was set."""
    return _universe.decode("utf-8", "surrogateescape")


def digest(flow: Flow) -> Digest:
    """Return the logical digest of a node. Cost is linear in the part not yet digested."""
    known = flow._digest
    if known is not None:
        return known
    stack = [flow]
    while stack:
        node = stack[-1]
        if node._digest is None:
            waiting = [dep for dep in _inputs(node) if dep._digest is None]
            if waiting:
                stack += waiting
                continue
            node._digest = _compute(node)
        stack.pop()
    assert flow._digest is not None
    return flow._digest


def _inputs(node: Flow) -> Sequence[Flow]:
    """The nodes whose digests the node's material needs."""
    if isinstance(node, Map):
        return (*node.deps, *node.body.deps)
    return node.deps


def _compute(node: Flow) -> Digest:
    """Digest of a node whose inputs have digests."""
    if isinstance(node, _DELAYED):
        # Most nodes are of these: as `_material` has it, without its detours.
        deps = b"".join([WIRE_HEADER + digest(dep) for dep in node.deps])
        return Digest(sha256(_universe + deps + node.digest_name + WIRE_HEADER + node.tag).digest())
    if isinstance(node, Requires) and not _universe:
        return digest(node.deps[0])
    if isinstance(node, Data) and not _universe and not isinstance(node.content, bytes):
        return node.content.data_digest
    return Digest(sha256(_material(node)).digest())


def _material(node: Flow) -> bytes:
    """The bytes that are hashed for a node."""
    prefix = _universe
    while isinstance(node, Requires):
        node = node.deps[0]
        prefix += _universe
    deps = b"".join([digest(dep).wire for dep in node.deps])
    return prefix + deps + node.digest_name + _body(node)


def _body(node: Flow) -> bytes:
    """The part of a node's material that is its operation's own."""
    match node:
        case Val(error=error) if error is not None:
            return Digest.random().wire
        case Val(value=Fileset() as value):
            return value.material()
        case Tagged():
            return node.tag.wire
        case Exec():
            extra = node.extra_digest
            text = _text(node.image + node.cmd) + _argmap(node.argmap or ())
            return text if extra is None else text + extra.wire
        case Intern(url=url) | Extern(url=url):
            return _text(url)
        case Groupby():
            return _text(node.pattern)
        case Collect():
            return _text(node.pattern + node.replacement)
        case Map():
            return _material(node.body)
        case Data(content=content):
            return content if isinstance(content, bytes) else str(content.digest).encode()
        case _:
            return b""


def _argmap(arguments: Sequence[ArgRef]) -> bytes:
    """Outputs count downwards from 0, inputs upwards: output 0 and input 0 look alike, as they must."""
    return b"".join(
        [(-ref.index if ref.is_output else ref.index).to_bytes(8, "little", signed=True) for ref in arguments]
    )


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def physical_digest(flow: Exec | Extern, values: Sequence[Fileset], image: str = "") -> Digest:
    """Digest of the concrete work: the dependencies' values, and for an exec ``image`` and command.

    Holds no operation name, no universe and no digests of dependencies.
    """
    hasher = sha256()
    for value in values:
        hasher.update(value.material())
    if isinstance(flow, Extern):
        hasher.update(_text(flow.url))
        return Digest(hasher.digest())
    hasher.update(_text(image + flow.cmd))
    hasher.update(_argmap(flow.arguments))
    if flow.extra_digest is not None:
        hasher.update(flow.extra_digest.wire)
    return Digest(hasher.digest())


def unhashed_files(flow: Flow) -> list[LocalFile]:
    """Local files whose contents the node's digest needs and that nobody has read yet."""
    found: dict[LocalFile, None] = {}
    stack = [flow] if flow._digest is None else []
    seen: set[Flow] = set()
    while stack:
        node = stack.pop()
        if isinstance(node, Data) and not isinstance(node.content, bytes) and not node.content.is_hashed:
            found[node.content] = None
        for dep in _inputs(node):
            if dep._digest is None and dep not in seen and not isinstance(dep, Val):
                seen.add(dep)
                stack.append(dep)
    return list(found)


def renamed(flow: Flow, name: Digest) -> Flow:
    """A copy of a node whose logical digest is ``name``: what a continuation returned, under its name.

    Source: flow/flow.go, (*Flow).Fork.
    """
    twin = copy(flow)
    twin._digest = name
    return twin


def cache_keys(
    flow: Flow, values: Sequence[Fileset] | None, resolved_image: str | None = None
) -> list[Digest]:
    """Keys under which a node's value is cached, most concrete first.

    ``values`` are the dependencies' values, or None when they are not known yet: then the logical digest
    is the only key. ``resolved_image`` is the image by digest, when the registry told.
    """
    keys: list[Digest] = []
    if values is not None and isinstance(flow, Exec):
        if resolved_image is not None and resolved_image != flow.image:
            keys.append(physical_digest(flow, values, resolved_image))
        keys.append(physical_digest(flow, values, flow.image))
    elif values is not None and isinstance(flow, Extern):
        keys.append(physical_digest(flow, values))
    keys.append(digest(flow))
    return keys


def image_command_id(image: str, cmd: str) -> Digest:
    """Name of an image and a command together, as the task database records it."""
    return Digest.of_text(image + cmd)


NO_COMMAND_ID = image_command_id("", "")
"""That of tasks that run no command."""
