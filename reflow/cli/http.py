"""``reflow http``: what a server answers to a GET with the client certificate of the configuration."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from reflow.cli.app import App
from reflow.cli.command import Arguments, Command, Fatal

if TYPE_CHECKING:
    import ssl

_DETAILS = """\
Http gets a URL and prints what comes, whatever the status of the answer. Of use is that for

	http://localhost:PORT/debug/status	what a run that was started as "reflow -http :PORT run …" does now
	http://localhost:PORT/debug/vars	figures of it
	https://HOST:9000/debug/vars		the worker of a cluster's machine: the client certificate of the
						configuration (the key tls) is shown to it"""

_CHUNK_BYTES = 1 << 16
_TIMEOUT_S = 60.0


def run(app: App, arguments: Arguments) -> int:
    """Get the URL and print the body."""
    import urllib.error
    import urllib.request

    (url,) = arguments.words
    if not url.startswith(("http://", "https://")):
        raise Fatal(f'Get "{url}": unsupported protocol scheme: want http:// or https://')
    context = _context(app) if url.startswith("https://") else None
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "reflow"})
        try:
            answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=context)
        except urllib.error.HTTPError as err:
            answer = err
        with answer:
            while chunk := answer.read(_CHUNK_BYTES):
                app.write_bytes(chunk)
    except (OSError, ValueError) as err:
        reason = getattr(err, "reason", err)
        raise Fatal(f'Get "{url}": {reason}') from err
    return 0


def _context(app: App) -> ssl.SSLContext:
    """Certificates for https. The servers that we know have none that names them: they are not checked."""
    import ssl

    path = _certificate_file(app)
    context = ssl.create_default_context()
    if not os.path.exists(path):
        app.write_error(f"reflow: no client certificate: {path} does not exist\n")
        return context
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        context.load_cert_chain(path)
    except (ssl.SSLError, OSError) as err:
        raise Fatal(f"{path}: not a certificate with its key: {err}") from err
    return context


def _certificate_file(app: App) -> str:
    choice = app.config.choice("tls")
    return os.path.expanduser(choice.flags.get("file", "")) if choice is not None else ""


COMMAND = Command("http", "http url", _DETAILS, run, min_words=1, max_words=1)
