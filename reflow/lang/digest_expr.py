"""Names of computations: digests of expressions in an environment, and of single operations.

`expr_digest` names what an expression computes, with names replaced by De Bruijn levels and by digests of
what they are bound to; it is a closure's digest too. `operation_material` names only the operation that an
expression performs: it goes into the tags of nodes whose operands are named by the nodes they depend on.
Both are wire formats. Source: syntax/digest.go; syntax/eval.go, stdEvalK.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

from reflow.core.digest import Digest
from reflow.lang import syntax as s
from reflow.lang import types as t
from reflow.lang.digest_value import length_bytes, value_material
from reflow.lang.env import Env
from reflow.lang.pattern import matchers, path_material, pattern_material
from reflow.lang.syntax import pattern_idents

Write = Callable[[bytes], None]

ABSENT_DIGEST = bytes(34)
"""What every expression's material begins with."""

_CASE_HEADER = b"grail.com/reflow/syntax.CaseClause"
LITERAL_TYPES = {"int": t.INT, "float": t.FLOAT, "string": t.STRING, "bool": t.BOOL}


def expr_digest(expr: s.Expr, env: Env) -> Digest:
    """Digest of what an expression computes."""
    hasher = sha256()
    write_expr(hasher.update, expr, env)
    return Digest(hasher.digest())


def write_expr(write: Write, expr: s.Expr, env: Env) -> None:
    """Write an expression's material."""
    while type(expr) is s.Ascribe:
        expr = expr.expr
    write(ABSENT_DIGEST)
    _WRITERS[type(expr)](write, expr, env)


def numbered_digest(number: int) -> Digest:
    """What stands for the argument or the binding of a number."""
    return Digest.of(bytes((number & 0xFF,)))


def literal_digest(literal: s.Literal) -> Digest:
    """Digest of a literal's value."""
    return Digest.of(value_material(literal.value, LITERAL_TYPES[literal.kind]))


def exec_outputs(expr: s.ExecExpr) -> list[tuple[str, t.Type]]:
    """Declared outputs of an exec, in order."""
    result = expr.type
    if isinstance(result, t.TupleType):
        return [(field.name, field.type) for field in result.fields]
    return [(result.label, result)]


@lru_cache(maxsize=1024)
def template_format(template: s.Template) -> bytes:
    """A template's text as digests hold it: each interpolation leaves ``%s``, after the text that follows."""
    first, *rest = [fragment.replace("%", "%%") for fragment in template.fragments]
    text = first + "".join([word + "%s" for word in rest])
    return text.encode("utf-8", "surrogateescape")


# ---------------------------------------------------------------------------------- single operations


def operation_material(expr: s.Expr, env: Env) -> bytes:
    """What identifies the operation of an expression whose operands are awaited.

    Parts of the expression that are evaluated only later are in it. Execs, comprehensions and switches have
    their own: `exec_material`, `clause_material`, `switch_material`.
    """
    pieces = [ABSENT_DIGEST]
    write = pieces.append
    match expr:
        case s.Binop(op=op, right=right):
            write(op.encode())
            if op in ("&&", "||"):
                write_expr(write, right, env)
        case s.Unop(op=op) | s.Builtin(op=op):
            write(op.encode())
        case s.Apply(builtin=str(name)):
            write(name.encode())
        case s.Apply(args=args):
            for arg in args:
                write_expr(write, arg, env)
        case s.Deref(name=name):
            write(name.encode())
        case s.Cond(then=then, orelse=orelse):
            write_expr(write, then, env)
            write_expr(write, orelse, env)
        case s.Make(path=path):
            write(path.value)
        case _:
            pass
    return b"".join(pieces)


def exec_material(image: str, template: s.Template) -> bytes:
    """What identifies an exec that awaits parameters or arguments: its image, and its text as written."""
    return ABSENT_DIGEST + (image + template.text).encode("utf-8", "surrogateescape")


def clause_material(expr: s.Compr, env: Env, begin: int) -> bytes:
    """What identifies a comprehension that awaits the source of its clause ``begin``."""
    pieces = [ABSENT_DIGEST]
    inner = env.push()
    for index, clause in enumerate(expr.clauses[begin:]):
        if isinstance(clause, s.EnumClause):
            for name, path in matchers(clause.pattern):
                if name:
                    inner.bind(name, Digest.of(path_material(path)))
        if index:
            write_expr(pieces.append, clause.expr, inner)
    write_expr(pieces.append, expr.result, inner)
    return b"".join(pieces)


def cases_material(cases: Iterable[s.Case], env: Env) -> bytes:
    """What identifies the rest of a switch: the cases that may still be chosen."""
    pieces: list[bytes] = []
    for case in cases:
        pieces += (_CASE_HEADER, pattern_material(case.pattern))
        inner = env.push()
        for number, name in enumerate(pattern_idents(case.pattern)):
            inner.bind(name, numbered_digest(number))
        write_expr(pieces.append, case.expr, inner)
    return b"".join(pieces)


# -------------------------------------------------------------------------------------- expressions


def _write_ident(write: Write, expr: s.Ident, env: Env) -> None:
    level, digest = env.level_and_digest(expr.name, expr.type)
    write(length_bytes(level))
    write(digest.wire)


def _write_literal(write: Write, expr: s.Literal, _env: Env) -> None:
    write(literal_digest(expr).wire)


def _write_binop(write: Write, expr: s.Binop, env: Env) -> None:
    """Operators before operands, so that a long chain of left operands needs no recursion."""
    rights = [expr.right]
    write(expr.op.encode())
    left = _bare(expr.left)
    while type(left) is s.Binop:
        write(ABSENT_DIGEST)
        write(left.op.encode())
        rights.append(left.right)
        left = _bare(left.left)
    write_expr(write, left, env)
    for right in reversed(rights):
        write_expr(write, right, env)


def _bare(expr: s.Expr) -> s.Expr:
    while type(expr) is s.Ascribe:
        expr = expr.expr
    return expr


def _write_unop(write: Write, expr: s.Unop, env: Env) -> None:
    write(expr.op.encode())
    write_expr(write, expr.operand, env)


_BUILTIN_ARGS: dict[str, Sequence[int]] = {
    "zip": (1, 0),
    "range": (1, 0),
    "reduce": (0, 1),
    "fold": (0, 1, 2),
}
"""Which arguments a builtin's material holds, in order; for the others the first only."""


def _write_apply(write: Write, expr: s.Apply, env: Env) -> None:
    if expr.builtin is not None:
        _write_builtin_call(write, expr.builtin, expr.args, env)
        return
    for arg in expr.args:
        write_expr(write, arg, env)
    write_expr(write, expr.callee, env)


def _write_builtin(write: Write, expr: s.Builtin, env: Env) -> None:
    _write_builtin_call(write, expr.op, expr.args, env)


def _write_builtin_call(write: Write, name: str, args: Sequence[s.Expr], env: Env) -> None:
    write(name.encode())
    for index in _BUILTIN_ARGS.get(name, (0,)):
        write_expr(write, args[index], env)


def _write_block(write: Write, expr: s.Block, env: Env) -> None:
    inner = env
    for decl in expr.decls:
        if not isinstance(decl, s.Assign):
            continue
        digest = expr_digest(decl.expr, inner)
        inner = inner.push() if inner is env else inner.extend()
        for name in pattern_idents(decl.pattern):
            inner.bind(name, digest)
    write_expr(write, expr.result, inner)


def _write_func(write: Write, expr: s.Func, env: Env) -> None:
    inner = env.push()
    for number, (name, _) in enumerate(expr.params):
        inner.bind(name, numbered_digest(number))
    write_expr(write, expr.body, inner)


def _write_tuple(write: Write, expr: s.Tuple, env: Env) -> None:
    write(length_bytes(len(expr.items)))
    for item in expr.items:
        write(expr_digest(item, env).wire)


def _write_struct(write: Write, expr: s.Struct, env: Env) -> None:
    fields = dict(expr.fields)
    write(length_bytes(len(expr.fields)))
    for name in sorted([name for name, _ in expr.fields], key=str.encode):
        write(name.encode())
        write_expr(write, fields[name], env)


def _write_list(write: Write, expr: s.ListExpr, env: Env) -> None:
    write(length_bytes(len(expr.items)))
    for item in expr.items:
        write_expr(write, item, env)


def sorted_entries(expr: s.MapExpr, env: Env) -> list[tuple[s.Expr, s.Expr]]:
    """Entries of a map literal in ascending order of the digests of their key expressions."""
    if len(expr.entries) < 2:
        return list(expr.entries)
    return sorted(expr.entries, key=lambda entry: expr_digest(entry[0], env))


def _write_map(write: Write, expr: s.MapExpr, env: Env) -> None:
    write(length_bytes(len(expr.entries)))
    for key, value in sorted_entries(expr, env):
        write_expr(write, key, env)
        write_expr(write, value, env)


def _write_variant(write: Write, expr: s.VariantExpr, env: Env) -> None:
    write(expr.tag.encode())
    if expr.element is not None:
        write(expr_digest(expr.element, env).wire)


def _write_exec(write: Write, expr: s.ExecExpr, env: Env) -> None:
    image = next((each for each in expr.decls if _binds(each, "image")), None)
    if isinstance(image, s.Assign):
        write_expr(write, image.expr, env)
    write(template_format(expr.template))
    outputs = {name for name, _ in exec_outputs(expr)}
    for index, arg in enumerate(expr.template.args):
        if isinstance(arg, s.Ident) and arg.name in outputs:
            write(length_bytes(index))
        else:
            write_expr(write, arg, env)


def _binds(decl: s.Decl, name: str) -> bool:
    return (
        isinstance(decl, s.Assign) and isinstance(decl.pattern, s.IdentPattern) and decl.pattern.name == name
    )


def _write_cond(write: Write, expr: s.Cond, env: Env) -> None:
    write_expr(write, expr.test, env)
    write_expr(write, expr.then, env)
    write_expr(write, expr.orelse, env)


def _write_switch(write: Write, expr: s.Switch, env: Env) -> None:
    """The patterns are not in it."""
    digest = expr_digest(expr.scrutinee, env)
    write(digest.wire)
    for case in expr.cases:
        inner = env.push()
        for name in pattern_idents(case.pattern):
            inner.bind(name, digest)
        write_expr(write, case.expr, inner)


def _write_deref(write: Write, expr: s.Deref, env: Env) -> None:
    write_expr(write, expr.expr, env)
    write(expr.name.encode())


def _write_index(write: Write, expr: s.Index, env: Env) -> None:
    write_expr(write, expr.expr, env)
    write_expr(write, expr.index, env)


def _write_compr(write: Write, expr: s.Compr, env: Env) -> None:
    inner = env.push()
    for clause in expr.clauses:
        if isinstance(clause, s.EnumClause):
            digest = expr_digest(clause.expr, inner)
            for name in pattern_idents(clause.pattern):
                inner.bind(name, digest)
        else:
            write_expr(write, clause.expr, inner)
    write_expr(write, expr.result, inner)


def _write_make(write: Write, expr: s.Make, env: Env) -> None:
    write_expr(write, expr.path, env)
    for decl in expr.decls:
        if isinstance(decl, s.Assign):
            for name in pattern_idents(decl.pattern):
                write(name.encode())
            write_expr(write, decl.expr, env)


def _write_requires(write: Write, expr: s.RequiresExpr, env: Env) -> None:
    write_expr(write, expr.expr, env)


_WRITERS: dict[type[s.Expr], Callable[[Write, Any, Env], None]] = {
    s.Ident: _write_ident,
    s.Literal: _write_literal,
    s.Binop: _write_binop,
    s.Unop: _write_unop,
    s.Apply: _write_apply,
    s.Builtin: _write_builtin,
    s.Block: _write_block,
    s.Func: _write_func,
    s.Tuple: _write_tuple,
    s.Struct: _write_struct,
    s.ListExpr: _write_list,
    s.MapExpr: _write_map,
    s.VariantExpr: _write_variant,
    s.ExecExpr: _write_exec,
    s.Cond: _write_cond,
    s.Switch: _write_switch,
    s.Deref: _write_deref,
    s.Index: _write_index,
    s.Compr: _write_compr,
    s.Make: _write_make,
    s.RequiresExpr: _write_requires,
}
