"""URLs as Go's ``net/url`` reads and writes them.

What Go writes may differ from what it has read: the scheme becomes lowercase, and characters that may not
stand where they do are escaped. The original gives that to the store, and so finds no object whose key has
such characters; we give what the program has written (`parse_place`). Where both are equal, digests are.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from reflow.lang.diagnostic import EvalError

_ALWAYS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~"
_HOST = frozenset(_ALWAYS + b"!$&'()*+,;=:[]<>\"")
_USER = frozenset(_ALWAYS + b"$&+,;=")
_PATH = frozenset(_ALWAYS + b"$&+,/:;=@")
_FRAGMENT = frozenset(_ALWAYS + b"$&+,/:;=?@!()*")
_ALLOWED_AS_WRITTEN = frozenset(b"!$&'()*+,;=:@[]%")

_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*):")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_PORT = re.compile(rb"(:[0-9]*)?\Z")
_USERINFO = re.compile(rb"[A-Za-z0-9._:~!$&'()*+,;=%@-]*\Z")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


class URL(NamedTuple):
    """A URL: its scheme (lowercase, empty for a relative one) and all of it."""

    scheme: str
    text: str


class _ProblemError(Exception):
    """What is wrong with a URL."""


def parse_url(raw: bytes) -> URL:
    """Read a URL. Raises EvalError with Go's text."""
    before, _, fragment = raw.partition(b"#")
    shown = before
    try:
        scheme, text = _parse(before)
        shown = raw
        if fragment:
            text += b"#" + _normal(fragment, _FRAGMENT)
    except _ProblemError as err:
        from reflow.lang.print_value import quote

        raise EvalError(f"parse {quote(shown)}: {err}") from None
    return URL(scheme.decode(), text.decode("utf-8", "surrogateescape"))


def parse_place(raw: bytes) -> URL:
    """Read the URL of a place: as written, but for the case of the scheme. Raises EvalError with Go's text.

    A percent sign is a character like any other: keys may have it anywhere.
    """
    found = _SCHEME.match(raw)
    if found is None:
        return parse_url(raw)
    scheme = parse_url(raw.replace(b"%", b"%25")).scheme
    return URL(scheme, scheme + raw[found.end() - 1 :].decode("utf-8", "surrogateescape"))


def _parse(raw: bytes) -> tuple[bytes, bytes]:
    """Scheme and text of a URL without fragment."""
    if _CONTROL.search(raw):
        raise _ProblemError("net/url: invalid control character in URL")
    if raw.startswith(b":"):
        raise _ProblemError("missing protocol scheme")
    found = _SCHEME.match(raw)
    scheme = found[1].lower() if found else b""
    lead = scheme + b":" if scheme else b""
    rest, query = _split_query(raw[found.end() :] if found else raw)
    if not rest.startswith(b"/"):
        if scheme:
            return scheme, lead + rest + query
        if b":" in rest.partition(b"/")[0]:
            raise _ProblemError("first path segment in URL cannot contain colon")
    authority = b""
    if rest.startswith(b"//") and (scheme or not rest.startswith(b"///")):
        name, slash, path = rest[2:].partition(b"/")
        user, host = _authority(scheme, name)
        rest = slash + path
        if user or host or (scheme and rest):
            authority = b"//" + user + _escape(host, _HOST)
    return scheme, _joined(lead, authority, _normal(rest, _PATH)) + query


def _joined(lead: bytes, authority: bytes, path: bytes) -> bytes:
    """A relative path whose first segment came to hold a colon is marked as relative."""
    if not lead and not authority and b":" in path.partition(b"/")[0]:
        return b"./" + path
    return lead + authority + path


def _split_query(rest: bytes) -> tuple[bytes, bytes]:
    """What stands before the query, and the query with its mark; a lone mark at the end stays."""
    if rest.endswith(b"?") and rest.count(b"?") == 1:
        return rest[:-1], b"?"
    rest, _, query = rest.partition(b"?")
    return rest, b"?" + query if query else b""


def _authority(scheme: bytes, name: bytes) -> tuple[bytes, bytes]:
    """The user part as written (with its ``@``), and the host unescaped."""
    userinfo, at, host = name.rpartition(b"@")
    host = _host(scheme, host)
    if not at:
        return b"", host
    if not _USERINFO.match(userinfo):
        raise _ProblemError("net/url: invalid userinfo")
    user, colon, password = userinfo.partition(b":")
    user = _escape(_unescape(user), _USER)
    return user + colon + _escape(_unescape(password), _USER) + b"@", host


def _host(scheme: bytes, host: bytes) -> bytes:
    bracket = host.rfind(b"[")
    if bracket > 0:
        raise _ProblemError("invalid IP-literal")
    if bracket == 0:
        return _ip_literal(host)
    colon = host.find(b":") if scheme in (b"http", b"https") else host.rfind(b":")
    if colon >= 0:
        _check_port(host[colon:])
    _check_host(host)
    return _unescape(host)


def _ip_literal(host: bytes) -> bytes:
    """``[ADDRESS%25ZONE]:PORT``."""
    close = host.rfind(b"]")
    if close < 0:
        raise _ProblemError("missing ']' in host")
    port = host[close + 1 :]
    _check_port(port)
    address, percent, zone = host[1:close].partition(b"%25")
    _check_host(address)
    for escape in _ESCAPE.finditer(zone):
        if int(escape[1], 16) not in _HOST | {0x20} and escape[0] != b"%25":
            raise _bad_escape(escape[0])
    _check_characters(zone)
    literal = _unescape(address) + _unescape(percent + zone)
    _check_address(literal)
    return b"[" + literal + b"]" + port


def _check_address(literal: bytes) -> None:
    """Only an IPv6 address may stand in brackets."""
    import ipaddress

    shown = literal.decode("utf-8", "surrogateescape")
    try:
        address = ipaddress.ip_address(shown)
    except ValueError:
        from reflow.lang.print_value import quote

        raise _ProblemError(f"invalid host: ParseAddr({quote(literal)}): unable to parse IP") from None
    if address.version == 4:
        raise _ProblemError("invalid IP-literal")


def _check_port(port: bytes) -> None:
    if not _PORT.match(port):
        from reflow.lang.print_value import quote

        raise _ProblemError(f"invalid port {quote(port)} after host")


def _check_host(host: bytes) -> None:
    """In a host only bytes outside ASCII (and ``%``) may be escaped; some characters may not stand at all."""
    at = 0
    while at < len(host):
        if host[at] == 0x25:
            escape = _ESCAPE.match(host, at)
            if escape is None or (int(escape[1], 16) < 0x80 and escape[0] != b"%25"):
                raise _bad_escape(host[at : at + 3])
            at += 3
            continue
        _check_characters(host[at : at + 1])
        at += 1


def _check_characters(text: bytes) -> None:
    for byte in text:
        if byte < 0x80 and byte != 0x25 and byte not in _HOST:
            from reflow.lang.print_value import quote

            raise _ProblemError(f"invalid character {quote(bytes([byte]))} in host name")


def _bad_escape(escape: bytes) -> _ProblemError:
    from reflow.lang.print_value import quote

    return _ProblemError(f"invalid URL escape {quote(escape)}")


def _unescape(text: bytes) -> bytes:
    if b"%" not in text:
        return text
    at = text.find(b"%")
    while at >= 0:
        if not _ESCAPE.match(text, at):
            raise _bad_escape(text[at : at + 3])
        at = text.find(b"%", at + 3)
    return _ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), text)


def _escape(text: bytes, allowed: frozenset[int]) -> bytes:
    return b"".join([bytes([byte]) if byte in allowed else b"%%%02X" % byte for byte in text])


def _normal(part: bytes, allowed: frozenset[int]) -> bytes:
    """A path or fragment as written if it may stand so, else escaped anew."""
    plain = _unescape(part)
    if all(byte in allowed or byte in _ALLOWED_AS_WRITTEN for byte in part) or plain == b"*":
        return part if plain != b"*" else b"*"
    return _escape(plain, allowed)
