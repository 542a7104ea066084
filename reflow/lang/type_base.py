"""What all types have in common, and the types without parts. Import them from `reflow.lang.types`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

from reflow.lang.limit import MAX_TYPE_DEPTH, cropped

NOT_CONST = -1
CAN_CONST = 0
CONST = 1

EMPTY_PREDICATES: frozenset[int] = frozenset()

TOO_DEEP = f"type is nested too deeply: more than {MAX_TYPE_DEPTH} levels"

LEAST_REMEMBERED = 64
"""Types of more parts remember their text, and how they are related to others."""


class Type:
    """A type. ``label`` names an exec's output; ``is_flow`` says that values are delayed.

    ``level`` is one of NOT_CONST, CAN_CONST, CONST; ``predicates`` are what constness hangs on. None of these
    takes part in equality or subtyping. ``size`` counts the types that it is made of, itself included, each
    as often as it is written; ``depth`` how far they go inside of one another. Slots with an underscore
    remember what was computed once.
    """

    __slots__ = (
        "_as_const",
        "_as_not_const",
        "_fixed",
        "_relations",
        "_text",
        "depth",
        "is_flow",
        "label",
        "level",
        "predicates",
        "size",
    )

    kind: ClassVar[str]
    """The name in messages of mismatches."""
    kind_id: ClassVar[int]
    """The byte that stands for the kind inside digests."""

    _copied: ClassVar[tuple[str, ...]] = ("depth", "is_flow", "label", "level", "predicates", "size")

    def __init_subclass__(cls) -> None:
        own = [slot for slot in cls.__dict__.get("__slots__", ()) if not slot.startswith("_")]
        cls._copied = (*cls._copied, *own)

    def __init__(self) -> None:
        self.label = ""
        self.is_flow = False
        self.level = CAN_CONST
        self.predicates = EMPTY_PREDICATES
        self.size = 1
        self.depth = 1
        self._text: str | None = None
        self._relations: dict[tuple[Any, int], tuple[Type, Any]] | None = None
        self._as_const: Type | None = None
        self._as_not_const: Type | None = None
        self._fixed = 0

    def parts(self) -> Sequence[Type]:
        """The types that this one is made of, in the order in which an error among them counts."""
        return ()

    def rebuilt(self, change: Callable[[Type], Type]) -> Type:
        """The same type with ``change`` applied to its parts; itself when none changed."""
        return self

    def body(self) -> str:
        """The text without the label."""
        raise NotImplementedError

    def __str__(self) -> str:
        text = self._text
        if text is None:
            text = f"({self.label} {self.body()})" if self.label else self.body()
            if self.size > LEAST_REMEMBERED:
                self._text = text
        return text

    def __repr__(self) -> str:
        return f"<{self}>"

    def replaced(
        self,
        *,
        label: str | None = None,
        is_flow: bool | None = None,
        level: int | None = None,
        predicates: frozenset[int] | None = None,
    ) -> Self:
        """A shallow copy with some of the side attributes changed."""
        copy = self._copy()
        if label is not None:
            copy.label = label
        if is_flow is not None:
            copy.is_flow = is_flow
        if level is not None:
            copy.level = level
        if predicates is not None:
            copy.predicates = predicates
        return copy

    def _copy(self, **changes: Any) -> Self:
        cls = type(self)
        copy = cls.__new__(cls)
        for slot in cls._copied:
            setattr(copy, slot, getattr(self, slot))
        copy._text = None
        copy._relations = None
        copy._as_const = None
        copy._as_not_const = None
        copy._fixed = 0
        for slot, value in changes.items():
            setattr(copy, slot, value)
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

    ``cause`` holds the diagnostics when they bring positions of their own, as those of a switch do;
    ``hint`` says what could be done, for people.
    """

    __slots__ = ("cause", "hint", "message")
    kind = "error"
    kind_id = 0

    def __init__(self, message: str, cause: Sequence[Any] | None = None, hint: str = "") -> None:
        super().__init__()
        self.message = cropped(message)
        self.cause = cause
        self.hint = cropped(hint)

    def body(self) -> str:
        """``error: MESSAGE``."""
        return f"error: {self.message}" if self.message else "error"


class Field:
    """A named or (in tuples and functions) unnamed component."""

    __slots__ = ("name", "type")

    def __init__(self, name: str, type: Type) -> None:
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
