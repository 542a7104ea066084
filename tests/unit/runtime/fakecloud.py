"""A cloud in memory that answers as AWS does, for what cannot be had from imitations: other accounts, other
regions, denials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reflow.runtime.setup_call import CallError, Cloud

Answer = dict[str, Any] | CallError


class FakeCloud(Cloud):
    """Answers calls from a table; records them. ``said`` has what people are told."""

    def __init__(self, answers: dict[str, Answer | Callable[..., Answer]], *, is_aws: bool = True) -> None:
        self.answers = answers
        self.calls: list[str] = []
        self.said: list[str] = []
        self.say = self.said.append
        self.sleep = lambda seconds: None
        self._is_aws = is_aws

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        self.calls.append(operation)
        answer = self.answers.get(operation, {})
        if callable(answer):
            answer = answer(**parameters)
        if isinstance(answer, CallError):
            raise answer
        return answer

    @property
    def region(self) -> str:
        return "us-west-2"

    @property
    def partition(self) -> str:
        return "aws"

    def is_aws(self, service: str) -> bool:
        return self._is_aws

    def is_encrypted(self, service: str) -> bool:
        return self._is_aws


def refusal(code: str, status: int = 400) -> CallError:
    """An error as a service answers it."""
    return CallError("service.operation", code, "because", status)


def changing(cloud: FakeCloud) -> list[str]:
    """The calls that change something, those of the probe aside."""
    return [name for name in cloud.calls if name.startswith(("put_bucket", "put_public", "create", "update"))]
