"""How predictions are made, from the configuration: the key ``predictor`` and the section of its provider."""

from __future__ import annotations

from typing import Any

from reflow.eval.predict import PredictorConfig
from reflow.runtime.config import Config, ConfigError

_NAMES = {
    "mindata": "min_data",
    "maxinspect": "max_inspect",
    "mempercentile": "mem_percentile",
    "alwaysrun": "always",
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "predictorconfig": {},
    "testpredictorconfig": {"min_data": 1, "always": True},
}


def predictor_config(config: Config, **overrides: Any) -> PredictorConfig | None:
    """The settings, or None when no predictor is configured. Raises ConfigError.

    They are under the provider's own name, or (as the original has them) under that in ``instances``.
    """
    provider = config.provider("predictor")
    if not provider:
        return None
    section = config.values.get(provider) or (config.values.get("instances") or {}).get(provider) or {}
    if not isinstance(section, dict):
        raise ConfigError(f"{provider}: want a mapping with {', '.join(_NAMES)}")
    values = {**_DEFAULTS[provider], **_read(provider, section), **overrides}
    try:
        return PredictorConfig(**values)
    except ValueError as err:
        raise ConfigError(f"{provider}: {err}") from err


def _read(provider: str, section: dict[str, Any]) -> dict[str, Any]:
    values = {}
    for key, value in section.items():
        if key not in _NAMES:
            raise ConfigError(f"{provider}: no setting {key} (it has: {', '.join(_NAMES)})")
        wanted: tuple[type, ...] = (int, float) if key == "mempercentile" else (int,)
        if not isinstance(value, bool if key == "alwaysrun" else wanted):
            raise ConfigError(
                f"{provider}: {key} is {value!r}, want {'a boolean' if key == 'alwaysrun' else 'a number'}"
            )
        values[_NAMES[key]] = value
    return values
