"""Checked trees as bytes, and back.

A tree becomes nested lists and tuples of numbers and texts, which ``marshal`` writes quickly. The body of
each outermost function is written by itself and read when the function is called first (or named by its
digest): most functions of a large module are not. Types stand in a table and are made when they are needed.
Modules that a tree makes are not part of it: they are given when it is read.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from operator import attrgetter
from typing import Any

from reflow.lang import syntax, types
from reflow.lang.module import Module
from reflow.lang.module_info import CheckedParam, ModuleInfo
from reflow.lang.source import Pos, Source
from reflow.lang.types import Field, Type, VariantType

_POS, _TYPE, _MODULE, _FLOAT, _FUNCTION, _UNSET, _FIELD, _VARIANT, _SOURCE = range(9)
_FIRST_CLASS = 16
"""Lists begin with one of these, or with the number of a class of nodes; tuples stand for tuples."""

_VERSION = 2
"""Of marshal's format. Later ones tell which objects were shared, which takes longer and varies."""

_MOST_NODES = 1 << 19
"""Nodes of the largest declaration that is written: each takes up hundreds of bytes on the way."""

_PLAIN = frozenset({str, int, bytes, bool, type(None), frozenset})


class CodecError(Exception):
    """A tree that cannot be written."""


def _node_classes() -> list[type]:
    found = [each for each in vars(syntax).values() if isinstance(each, type) and is_dataclass(each)]
    return sorted(found, key=lambda each: each.__name__)


def _type_classes() -> list[type[Type]]:
    found = [each for each in vars(types).values() if isinstance(each, type) and issubclass(each, Type)]
    return sorted(found, key=lambda each: each.__name__)


_CLASSES = _node_classes()
_NAMES = {each: [field.name for field in fields(each) if field.name != "read_body"] for each in _CLASSES}
_NUMBERS = {each: _FIRST_CLASS + number for number, each in enumerate(_CLASSES)}
_GETTERS = {each: attrgetter(*names) for each, names in _NAMES.items() if len(names) > 1}
_TYPE_CLASSES = _type_classes()
_TYPE_NUMBERS = {each: number for number, each in enumerate(_TYPE_CLASSES)}
_TYPE_GETTERS = {each: attrgetter(*each._copied) for each in _TYPE_CLASSES}


def encode(tree: syntax.Module, info: ModuleInfo, modules: Sequence[Module]) -> bytes:
    """The bytes of a module whose ``make`` expressions have these modules.

    Raises CodecError, ValueError or RecursionError for what cannot be written, such as a tree too deep.
    """
    return _Encoder(modules).module(tree, info)


class _Encoder:
    def __init__(self, modules: Sequence[Module]) -> None:
        self._modules = {id(module): number for number, module in enumerate(modules)}
        self._sources: dict[Source, int] = {}
        self._type_numbers: dict[Type, int] = {}
        self._types: list[Any] = []
        self._is_inside_function = False
        self._nodes_left = _MOST_NODES

    def module(self, tree: syntax.Module, info: ModuleInfo) -> bytes:
        head = self.value((tree.pos, tree.source, tree.keyspace, tree.params))
        decls = [self._decl(each) for each in tree.decls]
        numbers = {id(decl): number for number, decl in enumerate(tree.params)}
        params = [(each.name, self.value(each.type), numbers[id(each.decl)]) for each in info.params]
        rest = (params, self.value(info.raw_type), info.docs)
        sources = [self._source_row(each) for each in self._sources]
        return marshal.dumps((sources, self._types, head, decls, rest), _VERSION)

    def _decl(self, decl: syntax.Decl) -> bytes:
        """A declaration; each by itself, since what is between tree and bytes is large."""
        self._nodes_left = _MOST_NODES
        return marshal.dumps(self.value(decl), _VERSION)

    def value(self, item: Any) -> Any:
        kind = type(item)
        if kind in _PLAIN:
            return item
        if kind is Pos:
            return [_POS, self._source(item.source), item.at, item.start, item.end]
        if kind is tuple:
            return tuple([self.value(each) for each in item])
        if kind is syntax.Func and not self._is_inside_function:
            return self._function(item)
        if kind in _NUMBERS:
            return self._node(item, kind)
        return [_TYPE, self._type(item)] if isinstance(item, Type) else self._other(item, kind)

    def _node(self, item: Any, kind: type) -> list[Any]:
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise CodecError(f"declaration of more than {_MOST_NODES} nodes")
        values: Sequence[Any]
        try:
            values = _GETTERS[kind](item)
        except (AttributeError, KeyError):
            values = [getattr(item, name, _UNSET_MARK) for name in _NAMES[kind]]
        return [_NUMBERS[kind], *[self.value(each) for each in values]]

    def _function(self, item: syntax.Func) -> list[Any]:
        head = [self.value(each) for each in (item.pos, item.type, item.params)]
        self._is_inside_function = True
        body = self.value(item.body)
        self._is_inside_function = False
        return [_FUNCTION, *head, marshal.dumps(body, _VERSION)]

    def _other(self, item: Any, kind: type) -> list[Any]:
        if item is _UNSET_MARK:
            return [_UNSET]
        if id(item) in self._modules:
            return [_MODULE, self._modules[id(item)]]
        if kind is Source:
            return [_SOURCE, self._source(item)]
        if kind is Field:
            return [_FIELD, item.name, self.value(item.type)]
        if kind is VariantType:
            return [_VARIANT, item.tag, self.value(item.element)]
        if kind.__name__ == "mpfr":
            import gmpy2

            return [_FLOAT, gmpy2.to_binary(item)]
        raise CodecError(f"no code for {kind.__name__}")

    def _type(self, item: Type) -> int:
        """The number of a type; those that it is made of come before it."""
        known = self._type_numbers.get(item)
        if known is None:
            kind = type(item)
            row = (_TYPE_NUMBERS[kind], *[self.value(each) for each in _TYPE_GETTERS[kind](item)])
            known = self._type_numbers[item] = len(self._types)
            self._types.append(row)
        return known

    def _source(self, source: Source) -> int:
        known = self._sources.get(source)
        if known is None:
            if source.outer is not None:
                self._source(source.outer)
            known = self._sources[source] = len(self._sources)
        return known

    def _source_row(self, source: Source) -> tuple[str, str, int, int]:
        """Name, text, number of the source around it, offset there; the text of a file is left out."""
        if source.outer is None:
            return source.name, "", -1, 0
        return source.name, source.text, self._sources[source.outer], source.outer_offset


class _Mark:
    """Stands for an attribute that was not set."""


_UNSET_MARK = _Mark()


def decode(data: bytes, source: Source, modules: Sequence[Module]) -> tuple[syntax.Module, ModuleInfo]:
    """What `encode` made ``data`` of; ``source`` is the text that it was parsed from.

    Raises all manner of exceptions for bytes that `encode` did not make.
    """
    sources, table, head, decls, (params, raw_type, docs) = marshal.loads(data)
    decoder = _Decoder(source, sources, table, modules)
    pos, origin, keyspace, given = decoder.value(head)
    declared = tuple([decoder.value(marshal.loads(each)) for each in decls])
    tree = syntax.Module(pos, origin, keyspace, given, declared)
    checked = [CheckedParam(name, decoder.value(each), tree.params[number]) for name, each, number in params]
    return tree, ModuleInfo(checked, decoder.value(raw_type), docs)


class _Decoder:
    """What the parts of one module refer to; functions keep it until their bodies are read."""

    def __init__(self, source: Source, rows: list[Any], table: list[Any], modules: Sequence[Module]) -> None:
        self._modules = modules
        self._table = table
        self._types: dict[int, Type] = {}
        self._sources: list[Source] = []
        for name, text, outer, offset in rows:
            if outer >= 0:
                self._sources.append(Source(name, text, outer=self._sources[outer], outer_offset=offset))
            else:
                self._sources.append(source if name == source.name else Source(name, ""))
        self._special: dict[int, Callable[[list[Any]], Any]] = {
            _TYPE: lambda item: self._type(item[1]),
            _MODULE: lambda item: self._modules[item[1]],
            _FLOAT: _float,
            _FUNCTION: self._function,
            _FIELD: lambda item: Field(item[1], self.value(item[2])),
            _VARIANT: lambda item: VariantType(item[1], self.value(item[2])),
            _SOURCE: lambda item: self._sources[item[1]],
        }

    def value(self, item: Any) -> Any:
        kind = type(item)
        if kind is tuple:
            return tuple([self.value(each) for each in item])
        if kind is not list:
            return item
        code = item[0]
        if code == _POS:
            return Pos(self._sources[item[1]], item[2], item[3], item[4])
        if code >= _FIRST_CLASS:
            return self._node(item)
        return self._special[code](item)

    def _node(self, item: list[Any]) -> Any:
        cls = _CLASSES[item[0] - _FIRST_CLASS]
        node = cls.__new__(cls)
        for name, each in zip(_NAMES[cls], item[1:], strict=True):
            if type(each) is not list or each[0] != _UNSET:
                setattr(node, name, self.value(each))
        if cls is syntax.Func:
            node.read_body = None
        return node

    def _function(self, item: list[Any]) -> syntax.Func:
        _, pos, stated, params, body = item
        node = syntax.Func.__new__(syntax.Func)
        node.pos = self.value(pos)
        node.type = self.value(stated)
        node.params = self.value(params)
        node.read_body = lambda: self.value(marshal.loads(body))
        return node

    def _type(self, number: int) -> Type:
        known = self._types.get(number)
        if known is None:
            kind, *values = self._table[number]
            cls = _TYPE_CLASSES[kind]
            known = cls.__new__(cls)
            Type.__init__(known)
            for name, each in zip(cls._copied, values, strict=True):
                setattr(known, name, self.value(each))
            self._types[number] = known
        return known


def _float(item: list[Any]) -> Any:
    import gmpy2

    return gmpy2.from_binary(item[1])
