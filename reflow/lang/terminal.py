"""Terminals of the grammar and what messages call them.

Terminals that the grammar does not know are still tokens: they are always unexpected.
"""

from __future__ import annotations

from collections.abc import Iterable

END = "$END"
"""The end of the text."""
NO_TOKEN = "NO_TOKEN"
"""What the original takes for the end of its input without being at the end: ``$end`` in messages."""
CHARACTER = "CHARACTER"
"""A character literal, which has no place in the grammar, and which the original overlooks in some places."""
ERROR = "ERROR"
"""Something that was complained about already."""
UNKNOWN = "UNKNOWN"
BINOP = "BINOP"
"""Every binary operator but ``-``, which may be a sign too."""

NAMES = {
    "IDENT": "tokIdent",
    "EXPR": "tokExpr",
    "INT": "tokInt",
    "STRING": "tokString",
    "BOOL": "tokBool",
    "FLOAT": "tokFloat",
    "TEMPLATE": "tokTemplate",
    "FILE": "tokFile",
    "DIR": "tokDir",
    "STRUCT": "tokStruct",
    "MODULE": "tokModule",
    "EXEC": "tokExec",
    "AT": "tokAt",
    "VAL": "tokVal",
    "FUNC": "tokFunc",
    "ASSIGN": "tokAssign",
    "ARROW": "tokArrow",
    "LEFT_ARROW": "tokLeftArrow",
    "IF": "tokIf",
    "ELSE": "tokElse",
    "SWITCH": "tokSwitch",
    "CASE": "tokCase",
    "MAKE": "tokMake",
    "KEYSPACE": "tokKeyspace",
    "PARAM": "tokParam",
    "ELLIPSIS": "tokEllipsis",
    "RESERVED": "tokReserved",
    "REQUIRES": "tokRequires",
    "TYPE": "tokType",
    "LBRACE": "'{'",
    "LPAREN": "'('",
    "LBRACKET": "'['",
    BINOP: "operator",
    "MINUS": "'-'",
    "BAR": "'|'",
    "CARET": "'^'",
    "UNDERSCORE": "'_'",
    "BANG": "'!'",
    "HASH": "'#'",
    END: "tokEOF",
    ERROR: "tokError",
    "DOT": "'.'",
    "RBRACKET": "']'",
    "RPAREN": "')'",
    "RBRACE": "'}'",
    "COLON": "':'",
    "COMMA": "','",
    "SEMI": "';'",
    "EQUALS": "'='",
    NO_TOKEN: "$end",
    CHARACTER: "$end",
    UNKNOWN: "$unk",
}
"""In the order in which messages list them."""

_OPERATOR_NAMES = {
    "||": "tokOrOr",
    "&&": "tokAndAnd",
    "<=": "tokLE",
    ">=": "tokGE",
    "!=": "tokNE",
    "==": "tokEqEq",
    "<<": "tokLSH",
    ">>": "tokRSH",
    "~>": "tokSquiggleArrow",
}
_MAX_EXPECTED = 4

ORDER = {terminal: index for index, terminal in enumerate(NAMES)}


def name_of(terminal: str, text: str) -> str:
    """What messages call a token; ``text`` is how it was written."""
    if terminal != BINOP:
        return NAMES[terminal]
    return _OPERATOR_NAMES.get(text) or f"'{text}'"


def expectation(terminals: Iterable[str]) -> str:
    """The end of a message, about what could have followed; empty when that is too much to list."""
    expected = sorted(set(terminals), key=ORDER.__getitem__)
    if not expected or BINOP in expected or len(expected) > _MAX_EXPECTED:
        return ""
    return ", expecting " + " or ".join([NAMES[each] for each in expected])
