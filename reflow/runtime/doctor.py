"""What may be wrong with an installation: checks, each of bounded time, and what they found.

A check is a function that answers with a `Finding`. It runs in a thread of its own, which is left behind when
it takes too long: nothing that hangs may hang the doctor.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

TIMEOUT_S = 3.0

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; ``mend`` says what to do about it."""

    name: str
    status: Status
    message: str
    mend: str = ""


class Check(NamedTuple):
    """A check. ``late`` is the status, and ``mend`` the advice, when it takes too long.

    ``asks`` tells then whom it has asked: host and port, or a path. It is called by another thread, and must
    not wait.
    """

    name: str
    run: Callable[[], Finding]
    late: Status = "failed"
    mend: str = ""
    asks: Callable[[], str] = str


def examine(checks: Sequence[Check], timeout_s: float = TIMEOUT_S) -> list[Finding]:
    """What the checks found, in their order. All run at the same time."""
    found: dict[int, Finding] = {}

    def run(number: int, check: Check) -> None:
        try:
            found[number] = check.run()
        except Exception as err:  # noqa: BLE001  (a check that breaks is a finding)
            found[number] = Finding(
                check.name, "failed", _one_line(str(err) or type(err).__name__), check.mend
            )

    threads = [
        threading.Thread(target=run, args=each, name=f"doctor-{each[1].name}", daemon=True)
        for each in enumerate(checks)
    ]
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [found.get(number) or _late(check, timeout_s) for number, check in enumerate(checks)]


def _late(check: Check, timeout_s: float) -> Finding:
    whom = check.asks()
    message = f"no answer{f' from {whom}' if whom else ''} within {timeout_s:g} s"
    return Finding(check.name, check.late, message, check.mend)


def server(url: str) -> str:
    """Host and port of a URL, and of the proxy that it is asked through, if there is one."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme, "")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return _host_and_port(url)
    return f"{_host_and_port(url)} by way of the proxy {_host_and_port(proxy)}"


def _host_and_port(url: str) -> str:
    """Without user and password, which may be in a proxy's URL."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def is_well(findings: Sequence[Finding]) -> bool:
    """Whether nothing failed."""
    return all(finding.status != "failed" for finding in findings)


def text(findings: Sequence[Finding]) -> str:
    """A line for each."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        mend = f"; to mend it: {finding.mend}" if finding.mend else ""
        lines.append(f"{finding.status:<7}  {finding.name:<{width}}  {_one_line(finding.message)}{mend}")
    return "\n".join(lines)


def document(findings: Sequence[Finding]) -> dict[str, Any]:
    """The same for programs."""
    return {"ok": is_well(findings), "checks": [asdict(finding) for finding in findings]}
