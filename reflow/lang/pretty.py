"""Expressions and patterns as text: short ones for people, and trees for the inside of variants.

`abbreviate` drops what does not fit a line (blocks, functions, execs); its result need not parse.
Source: syntax/expr.go, (*Expr).Abbrev and (*Expr).String; syntax/pat.go, (*Pat).String.
"""

from __future__ import annotations

from collections.abc import Iterable

from reflow.lang import types
from reflow.lang.print_value import quote_text, show
from reflow.lang.syntax import (
    PRECEDENCE,
    Apply,
    Ascribe,
    Assign,
    Binop,
    Block,
    Builtin,
    Case,
    Clause,
    Compr,
    Cond,
    Decl,
    Declare,
    Deref,
    EnumClause,
    ExecExpr,
    Expr,
    Func,
    Ident,
    IdentPattern,
    IgnorePattern,
    Index,
    ListExpr,
    ListPattern,
    Literal,
    Make,
    MapExpr,
    Pattern,
    RequiresExpr,
    Struct,
    StructPattern,
    Switch,
    Tuple,
    TuplePattern,
    TypeDecl,
    Unop,
    VariantExpr,
    VariantPattern,
)
from reflow.lang.types import Field, Type

_LITERAL_TYPES: dict[str, Type] = {
    "int": types.INT,
    "float": types.FLOAT,
    "string": types.STRING,
    "bool": types.BOOL,
}


def pattern_text(pattern: Pattern) -> str:
    """A pattern in the language's own syntax."""
    match pattern:
        case IdentPattern(name=name):
            return name
        case IgnorePattern():
            return "_"
        case TuplePattern(items=items):
            return f"({_joined(map(pattern_text, items))})"
        case ListPattern(items=items, tail=tail):
            words = [pattern_text(each) for each in items]
            return f"[{_joined([*words, f'...{pattern_text(tail)}'] if tail else words)}]"
        case StructPattern(fields=fields):
            return "{" + _joined(f"{name}:{pattern_text(each)}" for name, each in fields) + "}"
        case VariantPattern(tag=tag, element=element):
            return f"#{tag}" if element is None else f"#{tag}({pattern_text(element)})"
        case _:
            raise AssertionError(pattern)


def abbreviate(expr: Expr) -> str:  # noqa: C901  (one arm per node)
    """An expression on one line, as documentation shows the default of a parameter.

    Parentheses stand only around right operands that need them. Structs end in a parenthesis, and
    variants hold a tree, as in the original.
    """
    match expr:
        case Ident(name=name):
            return name
        case Literal():
            return _literal(expr)
        case Binop(op=op, left=left):
            return f"{abbreviate(left)} {op} {_right_operand(expr)}"
        case Unop(op=op, operand=operand):
            return op + abbreviate(operand)
        case Apply(callee=callee, args=args):
            return f"{abbreviate(callee)}({_abbreviated(args)})"
        case Builtin(op=op, args=args):
            return f"{op}({_abbreviated(args)})"
        case Ascribe(expr=inner):
            return abbreviate(inner)
        case Block(result=result):
            return f"{{...; {abbreviate(result)}}}"
        case Tuple(items=items):
            return f"({_abbreviated(items)})"
        case Struct(fields=fields):
            return "{" + _joined(f"{name}:{abbreviate(each)}" for name, each in fields) + ")"
        case ListExpr(items=items):
            return f"[{_abbreviated(items)}]"
        case MapExpr(entries=entries):
            return f"[{_joined(f'{abbreviate(key)}: {abbreviate(value)}' for key, value in entries)}]"
        case VariantExpr(tag=tag, element=element):
            return f"#{tag}" if element is None else f"#{tag}({tree_text(element)})"
        case Cond(test=test, then=then, orelse=orelse):
            return f"if {abbreviate(test)} {{ {abbreviate(then)} }} else {{ {abbreviate(orelse)} }}"
        case Switch(scrutinee=scrutinee, cases=cases):
            words = [f"case {pattern_text(each.pattern)}: {abbreviate(each.expr)}" for each in cases]
            return f"switch {abbreviate(scrutinee)} {{ {' '.join(words)} }}"
        case Deref(expr=inner, name=name):
            return f"{abbreviate(inner)}.{name}"
        case Index(expr=inner, index=index):
            return f"{abbreviate(inner)}[{abbreviate(index)}]"
        case _:
            return _OPAQUE[type(expr)]


_OPAQUE: dict[type[Expr], str] = {
    Func: "<func>",
    ExecExpr: "<exec>",
    Compr: "<compr>",
    Make: "<make>",
    RequiresExpr: "<requires>",
}


def _joined(words: Iterable[str]) -> str:
    return ", ".join(words)


def _abbreviated(exprs: Iterable[Expr]) -> str:
    return _joined([abbreviate(each) for each in exprs])


def _right_operand(expr: Binop) -> str:
    text = abbreviate(expr.right)
    if isinstance(expr.right, Binop) and PRECEDENCE[expr.right.op] <= PRECEDENCE[expr.op]:
        return f"({text})"
    return text


def _literal(expr: Literal) -> str:
    return show(expr.value, _LITERAL_TYPES[expr.kind])


# ------------------------------------------------------------------------------------------- trees


def tree_text(expr: Expr) -> str:
    """The tree of an expression, with the types that the checker has found, if it has run."""
    found: Type | None = getattr(expr, "type", None) or _stated(expr)
    return ("" if found is None else f"<{found}>") + _tree(expr)


def _stated(expr: Expr) -> Type | None:
    """The type that an expression has on its own, before the checker has run."""
    match expr:
        case Literal(kind=kind):
            return _LITERAL_TYPES[kind]
        case Ascribe(stated=stated) | ExecExpr(result=stated):
            return stated
        case _:
            return None


def _tree(expr: Expr) -> str:  # noqa: C901  (one arm per node)
    match expr:
        case Ident(name=name):
            return f"ident({quote_text(name)})"
        case Literal():
            return f"const({_literal(expr)})"
        case Binop(op=op, left=left, right=right):
            return f'binop({tree_text(left)}, "{op}", {tree_text(right)})'
        case Unop(op=op, operand=operand):
            return f'unop("{op}", {tree_text(operand)}'  # the original does not close it
        case Apply(callee=callee, args=args, builtin=builtin):
            return f"apply({tree_text(callee)}({_trees(args)}))" if builtin is None else _call(builtin, args)
        case Builtin(op=op, args=args):
            return _call(op, args)
        case Ascribe(expr=inner):
            return f"ascribe({tree_text(inner)})"
        case Block(decls=decls, result=result):
            return f"block({_decls(decls)} in {tree_text(result)})"
        case Func(params=params, body=body):
            fields = types.fields_text([Field(name, each) for name, each in params])
            return f"func(({fields}) => {tree_text(body)})"
        case Tuple(items=items):
            return f"tuple({_trees(items)})"
        case Struct(fields=named):
            return f"struct({_joined(f'{name}:{tree_text(each)}' for name, each in named)})"
        case ListExpr(items=items):
            return f"list({_trees(items)})"
        case MapExpr(entries=entries):
            pairs = sorted([(tree_text(key), tree_text(value)) for key, value in entries])
            return f"map({_joined(f'{key}:{value}' for key, value in pairs)})"
        case VariantExpr(tag=tag, element=element):
            return f"variant(#{tag})" if element is None else f"variant(#{tag}, {tree_text(element)})"
        case ExecExpr(decls=decls, template=template):
            stated = getattr(expr, "type", expr.result)
            return f"exec(decls({_decls(decls)}), {stated}, {quote_text(template.text)})"
        case Cond(test=test, then=then, orelse=orelse):
            return f"cond({tree_text(test)}, {tree_text(then)}, {tree_text(orelse)})"
        case Switch(scrutinee=scrutinee, cases=cases):
            return f"switch({tree_text(scrutinee)}, cases({_joined(map(_case, cases))}))"
        case Deref(expr=inner, name=name):
            return f"deref({tree_text(inner)}, {name})"
        case Index(expr=inner, index=index):
            return f"index({tree_text(inner)}, {tree_text(index)})"
        case Compr(result=result, clauses=clauses):
            return f"compr({tree_text(result)}, {_joined(map(_clause, clauses))})"
        case Make(path=path, decls=decls):
            return f"make({tree_text(path)}, {_decls(decls)})"
        case RequiresExpr(decls=decls, expr=inner):
            return f"resources({tree_text(inner)}, {_decls(decls)})"
        case _:
            raise AssertionError(expr)


def _trees(exprs: Iterable[Expr]) -> str:
    return _joined([tree_text(each) for each in exprs])


def _call(name: str, args: Iterable[Expr]) -> str:
    return f"builtin({name}, {_trees(args)}".rstrip(" ,") + ")"


def _case(case: Case) -> str:
    return f"case({pattern_text(case.pattern)}, {tree_text(case.expr)})"


def _clause(clause: Clause) -> str:
    match clause:
        case EnumClause(pattern=pattern, expr=expr):
            return f"enum({tree_text(expr)}, {pattern_text(pattern)})"
        case _:
            return f"filter({tree_text(clause.expr)})"


def _decls(decls: Iterable[Decl]) -> str:
    return _joined([decl_text(each) for each in decls])


def decl_text(decl: Decl) -> str:
    """The tree of a declaration."""
    match decl:
        case Assign(pattern=pattern, expr=expr):
            found: Type | None = getattr(expr, "type", None)
            prefix = "" if found is None else f"<{found}>"
            return f"{prefix}assign({pattern_text(pattern)}, {tree_text(expr)})"
        case Declare(name=name, type=stated):
            return f"<{stated}>declare({name}, {stated})"
        case TypeDecl(name=name, type=stated):
            return f"<{stated}>type({name} {stated})"
        case _:
            return "error"
