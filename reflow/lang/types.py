"""Types: what they are made of, how they print, and what is checked when they are made.

Types are immutable values; equality, subtyping and unification are in `reflow.lang.unify` (Python's
``==`` on types is identity). Names of aliases are gone after `expand`, save in `RefType`, which only the
parser makes. An `ErrorType` inside a type makes the whole an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

NOT_CONST = -1
CAN_CONST = 0
CONST = 1

MAX_FUNC_ARGS = 128

EMPTY_PREDICATES: frozenset[int] = frozenset()


class Type:
    """A type. ``label`` names an exec's output; ``is_flow`` says that values are delayed.

    ``level`` is one of NOT_CONST, CAN_CONST, CONST; ``predicates`` are what constness hangs on. None of these
    takes part in equality or subtyping.
    """

    __slots__ = ("is_flow", "label", "level", "predicates")

    kind: ClassVar[str]
    """The name in messages of mismatches."""
    kind_id: ClassVar[int]
    """The byte that stands for the kind inside digests."""

    def __init__(self) -> None:
        self.label = ""
        self.is_flow = False
        self.level = CAN_CONST
        self.predicates = EMPTY_PREDICATES

    def body(self) -> str:
        """The text without the label."""
        raise NotImplementedError

    def __str__(self) -> str:
        return f"({self.label} {self.body()})" if self.label else self.body()

    def __repr__(self) -> str:
        return f"<{self}>"

    def replaced(
        self,
        *,
        label: str | None = None,
        is_flow: bool | None = None,
        level: int | None = None,
        predicates: frozenset[int] | None = None,
    ) -> Type:
        """A shallow copy with some of the side attributes changed."""
        copy = type(self).__new__(type(self))
        for cls in type(self).__mro__:
            for slot in getattr(cls, "__slots__", ()):
                setattr(copy, slot, getattr(self, slot))
        if label is not None:
            copy.label = label
        if is_flow is not None:
            copy.is_flow = is_flow
        if level is not None:
            copy.level = level
        if predicates is not None:
            copy.predicates = predicates
        return copy


class BasicType(Type):
    """A type without parts."""

    __slots__ = ("kind", "kind_id")

    kind: str  # type: ignore[misc]  # one class serves all basic kinds
    kind_id: int  # type: ignore[misc]

    def __init__(self, kind: str, kind_id: int) -> None:
        super().__init__()
        self.kind = kind
        self.kind_id = kind_id

    def body(self) -> str:
        """The kind's name."""
        return self.kind


BOTTOM = BasicType("bottom", 1)
INT = BasicType("int", 2)
STRING = BasicType("string", 3)
BOOL = BasicType("bool", 4)
FILE = BasicType("file", 5)
DIR = BasicType("dir", 6)
UNIT = BasicType("unit", 7)
FLOAT = BasicType("float", 15)
FILESET = BasicType("fileset", 16)
TOP = BasicType("top", 17)


class ErrorType(Type):
    """What the type of an erroneous expression is. ``message`` is what is wrong.

    ``cause`` may carry the exception or the diagnostics behind it.
    """

    __slots__ = ("cause", "message")
    kind = "error"
    kind_id = 0

    def __init__(self, message: str, cause: object = None) -> None:
        super().__init__()
        self.message = message
        self.cause = cause

    def body(self) -> str:
        """``error: MESSAGE``."""
        return f"error: {self.message}" if self.message else "error"


class Field:
    """A named or (in tuples and functions) unnamed component."""

    __slots__ = ("name", "type")

    def __init__(self, name: str, type: Type) -> None:  # noqa: A002  (what it is)
        self.name = name
        self.type = type

    def __repr__(self) -> str:
        return f"{self.name} {self.type}"


class VariantType:
    """One alternative of a sum type; ``element`` is None when it has none."""

    __slots__ = ("element", "tag")

    def __init__(self, tag: str, element: Type | None = None) -> None:
        self.tag = tag
        self.element = element

    def __str__(self) -> str:
        return f"#{self.tag}" if self.element is None else f"#{self.tag}({self.element})"


class ListType(Type):
    """``[T]``."""

    __slots__ = ("element",)
    kind = "list"
    kind_id = 8

    def __init__(self, element: Type) -> None:
        super().__init__()
        self.element = element

    def body(self) -> str:
        """``[T]``."""
        return f"[{self.element}]"


class MapType(Type):
    """``[K:V]``."""

    __slots__ = ("key", "value")
    kind = "map"
    kind_id = 9

    def __init__(self, key: Type, value: Type) -> None:
        super().__init__()
        self.key = key
        self.value = value

    def body(self) -> str:
        """``[K:V]``."""
        return f"[{self.key}:{self.value}]"


class TupleType(Type):
    """``(T, U)``; fields may have labels."""

    __slots__ = ("fields",)
    kind = "tuple"
    kind_id = 10

    def __init__(self, fields: Sequence[Field]) -> None:
        super().__init__()
        self.fields = tuple(fields)

    def body(self) -> str:
        """``(T, U)``."""
        return f"({fields_text(self.fields)})"


class FuncType(Type):
    """``func(ARGS) R``."""

    __slots__ = ("fields", "result")
    kind = "func"
    kind_id = 11

    def __init__(self, fields: Sequence[Field], result: Type) -> None:
        super().__init__()
        self.fields = tuple(fields)
        self.result = result

    def body(self) -> str:
        """``func(ARGS) R``."""
        return f"func({fields_text(self.fields)}) {self.result}"


class StructType(Type):
    """``{FIELDS}``."""

    __slots__ = ("fields",)
    kind = "struct"
    kind_id = 12

    def __init__(self, fields: Sequence[Field]) -> None:
        super().__init__()
        self.fields = tuple(fields)

    def body(self) -> str:
        """``{FIELDS}``."""
        return "{" + fields_text(self.fields) + "}"

    def field(self, name: str) -> Type | None:
        """The type of the first field with a name."""
        return next((each.type for each in self.fields if each.name == name), None)


class ModuleType(StructType):
    """``module{FIELDS, type A T}``: values by name, and exported aliases."""

    __slots__ = ("aliases",)
    kind = "module"
    kind_id = 13

    def __init__(self, fields: Sequence[Field], aliases: Sequence[Field] = ()) -> None:
        super().__init__(fields)
        self.aliases = tuple(aliases)

    def body(self) -> str:
        """``module{FIELDS, type A T}``."""
        aliases = "".join([f", type {alias.name} {alias.type}" for alias in self.aliases])
        return "module{" + fields_text(self.fields) + aliases + "}"

    def alias(self, name: str) -> Type | None:
        """The type of an exported alias."""
        return next((each.type for each in self.aliases if each.name == name), None)


class RefType(Type):
    """A reference to an alias, not yet expanded."""

    __slots__ = ("path",)
    kind = "ident"
    kind_id = 14

    def __init__(self, path: Sequence[str]) -> None:
        super().__init__()
        self.path = tuple(path)

    def body(self) -> str:
        """The dotted path."""
        return ".".join(self.path)


class SumType(Type):
    """``#A | #B(T)``."""

    __slots__ = ("variants",)
    kind = "sum"
    kind_id = 18

    def __init__(self, variants: Sequence[VariantType]) -> None:
        super().__init__()
        self.variants = tuple(variants)

    def body(self) -> str:
        """``#A | #B(T)``."""
        return " | ".join([str(each) for each in self.variants])

    def variant(self, tag: str) -> VariantType | None:
        """The variant with a tag."""
        return next((each for each in self.variants if each.tag == tag), None)


def fields_text(fields: Sequence[Field]) -> str:
    """Fields as the original prints them: a type is shown once for names in a row that share it."""
    from reflow.lang.unify import equal  # noqa: PLC0415  (unify is built on this module)

    words = []
    for index, each in enumerate(fields):
        follows = index + 1 < len(fields)
        if not each.name:
            words.append(str(each.type))
        elif follows and fields[index + 1].name and equal(each.type, fields[index + 1].type):
            words.append(each.name)
        else:
            words.append(f"{each.name} {each.type}")
    return ", ".join(words)


# ------------------------------------------------------------------------------------- constructors
# These check what the original checks when a type is made; use them rather than the classes.


def list_of(element: Type) -> Type:
    """``[element]``."""
    return _unless_error([element], lambda: ListType(element))


_MAP_KEYS = frozenset({"string", "int", "float", "bool", "file", "top"})


def map_of(key: Type, value: Type) -> Type:
    """``[key:value]``; an error when the key's kind is none that maps can have."""
    if key.kind not in _MAP_KEYS:
        return ErrorType(f"{key} is not a valid map key type")
    return _unless_error([key, value], lambda: MapType(key, value))


def tuple_of(fields: Sequence[Field]) -> Type:
    """``(fields)``."""
    return _unless_error([each.type for each in fields], lambda: TupleType(fields))


def func_of(fields: Sequence[Field], result: Type) -> Type:
    """``func(fields) result``; an error beyond 128 arguments."""
    if len(fields) > MAX_FUNC_ARGS:
        return ErrorType(f"functions can have at most {MAX_FUNC_ARGS} arguments")
    return _unless_error([*(each.type for each in fields), result], lambda: FuncType(fields, result))


def struct_of(fields: Sequence[Field]) -> Type:
    """``{fields}``."""
    return _unless_error([each.type for each in fields], lambda: StructType(fields))


def module_of(fields: Sequence[Field], aliases: Sequence[Field] = ()) -> Type:
    """``module{fields, aliases}``."""
    parts = [each.type for each in (*fields, *aliases)]
    return _unless_error(parts, lambda: ModuleType(fields, aliases))


def ref(path: Sequence[str]) -> Type:
    """A reference to an alias."""
    return RefType(path)


def sum_of(variants: Sequence[VariantType]) -> Type:
    """``#A | #B(T)``; an error when a tag is empty, lowercase or there twice."""
    if not variants:
        return ErrorType("sum types must have at least one variant")
    seen = set()
    for each in variants:
        if not each.tag:
            return ErrorType("tag must be non-empty")
        if each.tag[0].islower():
            return ErrorType(f'tag "{each.tag}" does not begin with uppercase')
        if each.tag in seen:
            return ErrorType(f'tag "{each.tag}" is not unique')
        seen.add(each.tag)
    elements = [each.element for each in variants if each.element is not None]
    return _unless_error(elements, lambda: SumType(variants))


def _unless_error(parts: Iterable[Type], build: Callable[[], Type]) -> Type:
    for part in parts:
        if isinstance(part, ErrorType):
            return part
    return build()
