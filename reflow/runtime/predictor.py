"""Predictions of what tasks will use, from the task database.

Tasks are alike when they have image and command in common, or else the ident. What a group predicts is
remembered for an hour, also that it predicts nothing. Source: predictor/predictor.go, predictor/taskgroup.go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from reflow.core.digest import Digest
from reflow.core.errors import ReflowError
from reflow.core.execconfig import ExecConfig, Profile
from reflow.core.wire import profile_from_json
from reflow.eval.predict import Prediction, PredictorConfig, predict, shortage_text
from reflow.taskdb import Task, TaskDB, TaskQuery

CACHE_S = 3600.0
MAX_TASKS = 1000
_NEVER = datetime.min.replace(tzinfo=UTC)


class Group(NamedTuple):
    """Tasks that are alike: those with one image and command, or those with one ident."""

    image_cmd_id: Digest | None = None
    ident: str = ""

    def __str__(self) -> str:
        return f"identGroup:{self.ident}" if self.image_cmd_id is None else f"imgCmdGroup:{self.image_cmd_id}"

    @property
    def query(self) -> TaskQuery:
        """What finds them."""
        if self.image_cmd_id is None:
            return TaskQuery(ident=self.ident, limit=MAX_TASKS)
        return TaskQuery(image_cmd_id=self.image_cmd_id, limit=MAX_TASKS)


def groups_of(config: ExecConfig) -> tuple[Group, ...]:
    """Groups that an exec belongs to, the closest relatives first; transfers belong to none."""
    if config.type != "exec":
        return ()
    closest = Group(image_cmd_id=Digest.of_text(config.image + config.cmd))
    return (closest, Group(ident=config.ident)) if config.ident else (closest,)


class _Remembered:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.prediction: Prediction | None = None
        self.expires = float("-inf")


class Predictor:
    """Predicts from a task database. ``debug`` is told why nothing is predicted. ``clock`` is in seconds."""

    def __init__(
        self,
        taskdb: TaskDB,
        config: PredictorConfig,
        *,
        debug: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._taskdb = taskdb
        self._config = config
        self._debug = debug
        self._clock = clock
        self._remembered: dict[Group, _Remembered] = {}

    async def predict(self, config: ExecConfig) -> Prediction | None:
        """What an exec will use, as far as others like it tell; None when they do not."""
        for group in groups_of(config):
            prediction = await self._predict_group(group)
            if prediction is not None:
                return prediction
        return None

    async def _predict_group(self, group: Group) -> Prediction | None:
        """What a group predicts; it is worked out once, for all who ask at the same time."""
        known = self._remembered.setdefault(group, _Remembered())
        async with known.lock:
            if self._clock() >= known.expires:
                known.prediction = await self._work_out(group)
                known.expires = self._clock() + CACHE_S
            return known.prediction

    async def _work_out(self, group: Group) -> Prediction | None:
        try:
            profiles = await self.profiles(group)
        except ReflowError as err:
            self._debug(f"getting predictions for group: {group}: {err}")
            return None
        prediction = profiles if isinstance(profiles, str) else predict(profiles, self._config)
        if isinstance(prediction, str):
            self._debug(f"getting predictions for group: {group}: {prediction}")
            return None
        self._debug(f"successfully modeled memory usage: {group}")
        return prediction

    async def profiles(self, group: Group) -> list[Profile] | str:
        """Profiles of a group's tasks that went well, from the latest ones; or why there are too few.

        Raises what the database cannot be read for.
        """
        tasks = await self._taskdb.tasks(group.query)
        if len(tasks) < self._config.min_data:
            return shortage_text(len(tasks), self._config.min_data, "tasks")
        ended = [task for task in tasks if task.end is not None and task.inspect]
        ended.sort(key=lambda task: task.end or _NEVER, reverse=True)
        profiles = [_profile(task) for task in ended[: self._config.max_inspect]]
        return [profile for profile in profiles if profile is not None]


def _profile(task: Task) -> Profile | None:
    """What a task used, if it went well and its memory was watched."""
    inspect = task.inspect or {}
    rows = inspect.get("Profile") or {}
    if "mem" not in rows or inspect.get("Error") or inspect.get("ExecError"):
        return None
    try:
        return profile_from_json(rows)
    except ReflowError:
        # It was written by something else; there are others.
        return None
