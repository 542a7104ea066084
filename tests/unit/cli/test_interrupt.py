from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from reflow.cli import interrupt
from reflow.cli.interrupt import Interrupts


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    kept = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:  # the tests may run under nohup
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_interrupts(number: signal.Signals) -> None:
    interrupts = Interrupts()
    interrupts.install()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_a_hook_is_called_instead_and_at_once_when_it_is_late() -> None:
    calls: list[str] = []
    interrupts = Interrupts()
    interrupts.install()
    interrupts.on_first(lambda: calls.append("first"))
    signal.raise_signal(signal.SIGINT)
    interrupts.on_first(lambda: calls.append("late"))
    assert calls == ["first", "late"]


def test_the_second_signal_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    def leave(status: int) -> None:
        calls.append(status)
        raise SystemExit

    monkeypatch.setattr(interrupt.os, "_exit", leave)
    interrupts = Interrupts()
    interrupts.install()
    interrupts.on_first(lambda: None)
    interrupts.on_second(lambda: calls.append("last resort"))
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(SystemExit):
        signal.raise_signal(signal.SIGTERM)
    assert calls == ["last resort", 1]


def test_ignored_signals_stay_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Interrupts().install()
    os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
