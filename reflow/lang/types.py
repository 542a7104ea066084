"""Types: what they are made of, how they print, and what is checked when they are made.

Types are immutable values, shared freely; Python's ``==`` on them is identity, `equal` is the language's.
Subtyping and unification are in `reflow.lang.unify`, constness in `reflow.lang.constness`. Names of aliases
are gone after `reflow.lang.expand`, save in `RefType`, which only the parser makes. An `ErrorType` inside a
type makes the whole an error.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from reflow.lang.limit import MAX_MODULE_PARTS, MAX_TYPE_DEPTH, MAX_TYPE_PARTS
from reflow.lang.type_base import (
    BOOL,
    BOTTOM,
    CAN_CONST,
    CONST,
    DIR,
    EMPTY_PREDICATES,
    FILE,
    FILESET,
    FLOAT,
    INT,
    LEAST_REMEMBERED,
    NOT_CONST,
    STRING,
    TOO_DEEP,
    TOP,
    UNIT,
    BasicType,
    ErrorType,
    Field,
    Type,
    VariantType,
)

__all__ = [
    "BOOL",
    "BOTTOM",
    "CAN_CONST",
    "CONST",
    "DIR",
    "EMPTY_PREDICATES",
    "FILE",
    "FILESET",
    "FLOAT",
    "INT",
    "LEAST_REMEMBERED",
    "NOT_CONST",
    "STRING",
    "TOO_DEEP",
    "TOP",
    "UNIT",
    "BasicType",
    "ErrorType",
    "Field",
    "FieldsType",
    "FuncType",
    "ListType",
    "MapType",
    "ModuleType",
    "RefType",
    "StructType",
    "SumType",
    "TupleType",
    "Type",
    "VariantType",
    "checked",
    "equal",
    "fields_text",
    "flow_of",
    "func_of",
    "is_exported",
    "labelled",
    "list_of",
    "map_of",
    "module_of",
    "ref",
    "remembered",
    "struct_of",
    "sum_of",
    "tuple_of",
]


class ListType(Type):
    """``[T]``."""

    __slots__ = ("element",)
    kind = "list"
    kind_id = 8

    def __init__(self, element: Type) -> None:
        super().__init__()
        self.element = element

    def parts(self) -> Sequence[Type]:
        """The element."""
        return (self.element,)

    def rebuilt(self, change: Callable[[Type], Type]) -> Type:
        """The same with its element changed."""
        element = change(self.element)
        return self if element is self.element else self._copy(element=element)

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

    def parts(self) -> Sequence[Type]:
        """Key, value."""
        return (self.key, self.value)

    def rebuilt(self, change: Callable[[Type], Type]) -> Type:
        """The same with key and value changed."""
        key, value = change(self.key), change(self.value)
        return self if key is self.key and value is self.value else self._copy(key=key, value=value)

    def body(self) -> str:
        """``[K:V]``."""
        return f"[{self.key}:{self.value}]"


class FieldsType(Type):
    """What types with fields have in common."""

    __slots__ = ("_by_name", "fields")

    def __init__(self, fields: Sequence[Field]) -> None:
        super().__init__()
        self.fields = tuple(fields)

    @property
    def by_name(self) -> Mapping[str, Type]:
        """Name -> type; of fields with one name the last counts, as where the original compares types."""
        try:
            return self._by_name
        except AttributeError:
            self._by_name: dict[str, Type] = {each.name: each.type for each in self.fields}
            return self._by_name

    def parts(self) -> Sequence[Type]:
        """The fields' types, in order."""
        return [each.type for each in self.fields]

    def rebuilt(self, change: Callable[[Type], Type]) -> Type:
        """The same with its fields changed."""
        fields = _changed(self.fields, change)
        return self if fields is self.fields else self._copy(fields=fields)


class TupleType(FieldsType):
    """``(T, U)``; fields may have labels."""

    __slots__ = ()
    kind = "tuple"
    kind_id = 10

    def body(self) -> str:
        """``(T, U)``."""
        return f"({fields_text(self.fields)})"


class FuncType(FieldsType):
    """``func(ARGS) R``."""

    __slots__ = ("result",)
    kind = "func"
    kind_id = 11

    def __init__(self, fields: Sequence[Field], result: Type) -> None:
        super().__init__(fields)
        self.result = result

    def parts(self) -> Sequence[Type]:
        """The result, then the arguments."""
        return [self.result, *(each.type for each in self.fields)]

    def rebuilt(self, change: Callable[[Type], Type]) -> Type:
        """The same with result and arguments changed."""
        result, fields = change(self.result), _changed(self.fields, change)
        if result is self.result and fields is self.fields:
            return self
        return self._copy(result=result, fields=fields)

    def body(self) -> str:
        """``func(ARGS) R``."""
        return f"func({fields_text(self.fields)}) {self.result}"


class StructType(FieldsType):
    """``{FIELDS}``."""

    __slots__ = ()
    kind = "struct"
    kind_id = 12

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

    def parts(self) -> Sequence[Type]:
        """The elements that there are."""
        return [each.element for each in self.variants if each.element is not None]

    def rebuilt(self, change: Callable[[Type], Type]) -> Type:
        """The same with its elements changed."""
        variants = [
            each if each.element is None else VariantType(each.tag, change(each.element))
            for each in self.variants
        ]
        if all(new.element is old.element for new, old in zip(variants, self.variants, strict=True)):
            return self
        return self._copy(variants=tuple(variants))

    def body(self) -> str:
        """``#A | #B(T)``."""
        return " | ".join([str(each) for each in self.variants])

    def variant(self, tag: str) -> VariantType | None:
        """The variant with a tag."""
        return next((each for each in self.variants if each.tag == tag), None)


def _changed(fields: tuple[Field, ...], change: Callable[[Type], Type]) -> tuple[Field, ...]:
    types = [change(each.type) for each in fields]
    if all(new is old.type for new, old in zip(types, fields, strict=True)):
        return fields
    return tuple([Field(old.name, new) for old, new in zip(fields, types, strict=True)])


def fields_text(fields: Sequence[Field]) -> str:
    """Fields as the original prints them: a type is shown once for names in a row that share it."""
    words = []
    for index, each in enumerate(fields):
        if not each.name:
            words.append(str(each.type))
        elif index + 1 < len(fields) and equal(fields[index + 1].type, each.type):
            words.append(each.name)
        else:
            words.append(f"{each.name} {each.type}")
    return ", ".join(words)


# ---------------------------------------------------------------------------------------- equality


def equal(left: Type, right: Type) -> bool:
    """Tell whether two types are the same; labels, constness and the flow flag do not count.

    An error type equals nothing, not even itself. References are equal when their paths are.
    """
    if left is right or left.kind_id != right.kind_id or left.kind_id == 0:
        return left is right and left.kind_id != 0
    compare = _EQUAL.get(type(left))
    if left.size > LEAST_REMEMBERED and compare is not None:
        return remembered(left, right, "equal", compare)
    return compare is None or compare(left, right)


Result = TypeVar("Result")


def remembered(left: Type, right: Type, relation: Any, compute: Callable[[Any, Any], Result]) -> Result:
    """What ``compute`` says of two large types, found out once for each relation."""
    known = left._relations
    if known is None:
        known = left._relations = {}
    key = relation, id(right)
    if key not in known:
        known[key] = right, compute(left, right)
    result: Result = known[key][1]
    return result


def _equal_lists(left: ListType, right: ListType) -> bool:
    return equal(left.element, right.element)


def _equal_maps(left: MapType, right: MapType) -> bool:
    return equal(left.key, right.key) and equal(left.value, right.value)


def _equal_tuples(left: FieldsType, right: FieldsType) -> bool:
    pairs = zip(left.fields, right.fields, strict=False)
    return len(left.fields) == len(right.fields) and all(equal(one.type, two.type) for one, two in pairs)


def _equal_funcs(left: FuncType, right: FuncType) -> bool:
    return equal(left.result, right.result) and _equal_tuples(left, right)


def _equal_structs(left: FieldsType, right: FieldsType) -> bool:
    if len(left.fields) != len(right.fields):
        return False
    theirs = right.by_name
    return all(name in theirs and equal(each, theirs[name]) for name, each in left.by_name.items())


def _equal_sums(left: SumType, right: SumType) -> bool:
    if len(left.variants) != len(right.variants):
        return False
    theirs = {each.tag: each.element for each in right.variants}
    for each in left.variants:
        if each.tag not in theirs:
            return False
        other = theirs[each.tag]
        if each.element is None or other is None:
            if each.element is not other:
                return False
        elif not equal(each.element, other):
            return False
    return True


def _equal_refs(left: RefType, right: RefType) -> bool:
    return left.path == right.path


_EQUAL: dict[type[Type], Callable[[Any, Any], bool]] = {
    ListType: _equal_lists,
    MapType: _equal_maps,
    TupleType: _equal_tuples,
    FuncType: _equal_funcs,
    StructType: _equal_structs,
    ModuleType: _equal_structs,
    SumType: _equal_sums,
    RefType: _equal_refs,
}


# ------------------------------------------------------------------------------------- constructors
# These check what the original checks when a type is made; use them rather than the classes.


def list_of(element: Type) -> Type:
    """``[element]``."""
    return checked(ListType(element))


_MAP_KEYS = frozenset({"string", "int", "float", "bool", "file", "top"})


def map_of(key: Type, value: Type) -> Type:
    """``[key:value]``; an error when the key's kind is none that maps can have."""
    if key.kind not in _MAP_KEYS:
        return ErrorType(f"{key} is not a valid map key type")
    return checked(MapType(key, value))


def tuple_of(fields: Sequence[Field]) -> Type:
    """``(fields)``."""
    return checked(TupleType(fields))


def func_of(fields: Sequence[Field], result: Type) -> Type:
    """``func(fields) result``. That literals have at most 128 arguments is checked elsewhere."""
    return checked(FuncType(fields, result))


def struct_of(fields: Sequence[Field]) -> Type:
    """``{fields}``."""
    return checked(StructType(fields))


def module_of(fields: Sequence[Field], aliases: Sequence[Field] = ()) -> Type:
    """``module{fields, aliases}``."""
    return checked(ModuleType(fields, aliases))


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
        if unicodedata.category(each.tag[0]) == "Ll":
            hint = f"#{each.tag[0].upper()}{each.tag[1:]}"
            return ErrorType(f'tag "{each.tag}" does not begin with uppercase', hint=f"write {hint}")
        if each.tag in seen:
            return ErrorType(f'tag "{each.tag}" is not unique')
        seen.add(each.tag)
    return checked(SumType(variants))


def flow_of(type: Type) -> Type:
    """The type as one whose values are delayed: those of system functions that make flows."""
    return type.replaced(is_flow=True, level=NOT_CONST, predicates=EMPTY_PREDICATES)


def labelled(label: str, type: Type) -> Type:
    """The type with a label, as an exec's outputs have."""
    return type.replaced(label=label)


def checked(type: Type) -> Type:
    """The type, or the first error among its parts, or an error when it is too large."""
    size, depth = 1, 0
    for part in type.parts():
        if part.kind_id == 0:
            return part
        size += part.size
        if part.depth > depth:
            depth = part.depth
    if depth >= MAX_TYPE_DEPTH:
        return ErrorType(TOO_DEEP)
    if size > MAX_TYPE_PARTS and size > (MAX_MODULE_PARTS if _has_module(type) else MAX_TYPE_PARTS):
        return ErrorType(f"type is too large: it is made of more than {MAX_TYPE_PARTS} types")
    type.size, type.depth = size, depth + 1
    return type


def _has_module(type: Type) -> bool:
    """Whether a type is that of a module, or has one among its parts."""
    seen: set[int] = set()
    todo = [type]
    while todo:
        each = todo.pop()
        if isinstance(each, ModuleType):
            return True
        parts = [part for part in each.parts() if id(part) not in seen]
        seen.update(map(id, parts))
        todo += parts
    return False


def is_exported(name: str) -> bool:
    """Whether a name is visible outside of its module: whether it begins with an uppercase letter."""
    return unicodedata.category(name[0]) == "Lu" if name else False
