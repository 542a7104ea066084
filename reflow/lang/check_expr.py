"""Rules for names, literals, constructors, blocks, functions, branches and access to parts.

Source: syntax/expr.go, (*Expr).init
"""

from __future__ import annotations

from reflow.lang import hints
from reflow.lang.checker import Checker
from reflow.lang.constness import const, not_const, swizzled
from reflow.lang.expand import expand
from reflow.lang.syntax import (
    Ascribe,
    Assign,
    Block,
    Compr,
    Cond,
    Deref,
    EnumClause,
    Expr,
    Func,
    Ident,
    Index,
    ListExpr,
    Literal,
    MapExpr,
    Struct,
    Tuple,
    VariantExpr,
)
from reflow.lang.tenv import Use
from reflow.lang.types import (
    BOOL,
    CAN_CONST,
    CONST,
    FILE,
    FLOAT,
    INT,
    NOT_CONST,
    STRING,
    TOP,
    ErrorType,
    Field,
    FuncType,
    ListType,
    MapType,
    StructType,
    Type,
    VariantType,
    equal,
    func_of,
    list_of,
    map_of,
    struct_of,
    sum_of,
    tuple_of,
)
from reflow.lang.unify import is_subtype, unify

MAX_FUNC_ARGS = 128

_LITERALS = {"int": const(INT), "float": const(FLOAT), "string": const(STRING), "bool": const(BOOL)}


def check_ident(check: Checker, expr: Expr) -> Type:
    """Look a name up, and count it as used."""
    assert isinstance(expr, Ident)
    symbol = check.env.values.get(expr.name)
    if symbol is None:
        return ErrorType(f'identifier "{expr.name}" not defined', hint=check.unknown_name(expr.name))
    symbol.used = True
    return symbol.type


def check_literal(check: Checker, expr: Expr) -> Type:
    """Give a constant its type."""
    assert isinstance(expr, Literal)
    return _LITERALS[expr.kind]


def check_ascribe(check: Checker, expr: Expr) -> Type:
    """Check an expression against the type that is stated for it."""
    assert isinstance(expr, Ascribe)
    got = check.expr(expr.expr)
    want = expand(expr.stated, check.env)
    if want.kind_id == 0:
        return want
    if is_subtype(got, want):
        return swizzled(want, CONST, got)
    name = expr.expr.name if isinstance(expr.expr, Ident) else "value"
    hint = hints.mismatch(got, want)
    if isinstance(expr.expr, Func) and not isinstance(want, FuncType):
        hint = "the type after the arguments of func(…) => is that of the whole function: leave it out"
    return ErrorType(f"cannot use {name} (type {got}) as type {want}", hint=hint)


# -------------------------------------------------------------------------------- scopes and branches


def check_block(check: Checker, expr: Expr) -> Type:
    """Check declarations in order, each seeing those above it, then the result."""
    assert isinstance(expr, Block)
    check.env.push()
    failure = None
    for decl in expr.decls:
        found = check.decl(decl)
        if found.kind_id == 0:
            failure = found
        else:
            assert isinstance(decl, Assign)
            check.bind_local(decl, not_const(found))
    result = check.expr(expr.result)
    check.close_scope()
    return result if failure is None else failure


def check_func(check: Checker, expr: Expr) -> Type:
    """Check a body with its parameters bound; they need not be used."""
    assert isinstance(expr, Func)
    env = check.env
    fields = [Field(name, expand(stated, env)) for name, stated in expr.params]
    env.push()
    for field in fields:
        env.bind(field.name, field.type, expr.pos, Use.NEVER)
    result = check.expr(expr.body)
    env.pop()
    if len(fields) > MAX_FUNC_ARGS:
        return ErrorType(f"functions can have at most {MAX_FUNC_ARGS} arguments")
    return const(func_of(fields, result))


def check_cond(check: Checker, expr: Expr) -> Type:
    """Check ``if``: both branches have one type in common."""
    assert isinstance(expr, Cond)
    test = check.expr(expr.test)
    then = check.expr(expr.then)
    orelse = check.expr(expr.orelse)
    if test.kind != "bool":
        return ErrorType(f"expected boolean expression, got {test}")
    unified = unify(CAN_CONST, [then, orelse])
    if isinstance(unified, ErrorType):
        unified.hint = hints.branches(then, orelse)
    return swizzled(unified, NOT_CONST, test)


# --------------------------------------------------------------------------------------- constructors


def check_tuple(check: Checker, expr: Expr) -> Type:
    """Check ``(a, b)``."""
    assert isinstance(expr, Tuple)
    fields = []
    for item in expr.items:
        fields.append(Field("", check.expr(item)))
    return const(tuple_of(fields))


def check_struct(check: Checker, expr: Expr) -> Type:
    """Check ``{a: x}``."""
    assert isinstance(expr, Struct)
    fields = []
    for name, value in expr.fields:
        fields.append(Field(name, check.expr(value)))
    return const(struct_of(fields))


def check_list(check: Checker, expr: Expr) -> Type:
    """Check ``[a, b]``: all have one type in common."""
    assert isinstance(expr, ListExpr)
    types = []
    for item in expr.items:
        types.append(check.expr(item))
    unified = unify(CAN_CONST, types)
    if isinstance(unified, ErrorType):
        unified.hint = unified.hint or hints.elements(types)
    return const(list_of(unified))


def check_map(check: Checker, expr: Expr) -> Type:
    """Check ``[k: v]``; the key of an empty map is of any type."""
    assert isinstance(expr, MapExpr)
    keys, values = [], []
    for key, value in expr.entries:
        keys.append(check.expr(key))
        values.append(check.expr(value))
    key_type = unify(CONST, keys) if keys else TOP
    return const(map_of(key_type, unify(CONST, values)))


def check_variant(check: Checker, expr: Expr) -> Type:
    """Check ``#Tag`` and ``#Tag(e)``: a sum of one variant."""
    assert isinstance(expr, VariantExpr)
    element = None if expr.element is None else check.expr(expr.element)
    return sum_of([VariantType(expr.tag, element)])


# ---------------------------------------------------------------------------------------------- parts


def check_deref(check: Checker, expr: Expr) -> Type:
    """Check ``e.name``."""
    assert isinstance(expr, Deref)
    source = check.expr(expr.expr)
    if not isinstance(source, StructType):
        return ErrorType(f"expected struct or module, got {source}")
    found = source.field(expr.name)
    if found is None:
        hint = hints.one_of(expr.name, source.by_name, "field" if source.kind == "struct" else "value in it")
        return ErrorType(f'field "{expr.name}" not found', hint=hint)
    return swizzled(found, CONST, source)


def check_index(check: Checker, expr: Expr) -> Type:
    """Check ``e[index]``."""
    assert isinstance(expr, Index)
    source = check.expr(expr.expr)
    index = check.expr(expr.index)
    if isinstance(source, ListType):
        if not equal(index, INT):
            return ErrorType(f"expected int, got {index}", hint=hints.mismatch(index, INT))
        return swizzled(source.element, CONST, index)
    if isinstance(source, MapType):
        if not equal(source.key, index):
            # The original names the two the wrong way round; the hint tells what is meant.
            hint = f"the keys of this map are {source.key}, the index is {index}"
            return ErrorType(f"expected {index}, got {source}", hint=hint)
        return swizzled(source.value, CONST, index)
    return ErrorType(f"expected a map or list, got {source}", hint=hints.indexed(source))


# ------------------------------------------------------------------------------------- comprehensions


_DIR_ENTRY = tuple_of([Field("", STRING), Field("", FILE)])


def check_compr(check: Checker, expr: Expr) -> Type:
    """Check clauses in order in one scope, then the result."""
    assert isinstance(expr, Compr)
    check.env.push()
    found = _compr(check, expr)
    check.close_scope()
    return found


def _compr(check: Checker, expr: Compr) -> Type:
    sources: list[Type] = []
    for clause in expr.clauses:
        source = check.expr(clause.expr)
        if source.kind_id == 0:
            return source
        wrong = _bind_clause(check, clause, source) if isinstance(clause, EnumClause) else None
        if not isinstance(clause, EnumClause):
            wrong = _check_filter(source, is_first=not sources)
        if wrong is not None:
            return wrong
        sources.append(source)
    return swizzled(list_of(check.expr(expr.result)), NOT_CONST, *sources)


def _check_filter(test: Type, *, is_first: bool) -> ErrorType | None:
    if is_first:
        return ErrorType("the first clause of a comprehension must be an enumeration")
    return None if test.kind == "bool" else ErrorType(f"expected boolean expression, got {test}")


def _bind_clause(check: Checker, clause: EnumClause, source: Type) -> ErrorType | None:
    match source:
        case ListType(element=element):
            entry = element
        case MapType(key=key, value=value):
            entry = tuple_of([Field("", key), Field("", value)])
        case _ if source.kind == "dir":
            entry = _DIR_ENTRY
        case _:
            hint = hints.comprehension_source(source)
            return ErrorType(f"expected list, map, or dir, got {source}", hint=hint)
    return check.bind(clause.pattern, entry, Use.ALWAYS)
