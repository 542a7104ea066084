"""Settings of predictions."""

from __future__ import annotations

from typing import Any

import pytest

from reflow.eval.predict import PredictorConfig
from reflow.runtime.config import Config, ConfigError
from reflow.runtime.predictorconfig import predictor_config


def test_no_predictor() -> None:
    assert predictor_config(Config({})) is None


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"predictor": "predictorconfig"}, PredictorConfig()),
        ({"predictor": "testpredictorconfig"}, PredictorConfig(min_data=1, always=True)),
        (
            {"predictor": "predictorconfig", "predictorconfig": {"mindata": 2, "mempercentile": 50.5}},
            PredictorConfig(min_data=2, mem_percentile=50.5),
        ),
        (
            {"predictor": "predictorconfig", "instances": {"predictorconfig": {"alwaysrun": True}}},
            PredictorConfig(always=True),
        ),
    ],
)
def test_settings(values: dict[str, Any], wanted: PredictorConfig) -> None:
    assert predictor_config(Config(values)) == wanted


def test_flags_win() -> None:
    config = Config({"predictor": "predictorconfig", "predictorconfig": {"maxinspect": 9}})
    assert predictor_config(config, max_inspect=7) == PredictorConfig(max_inspect=7)


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ([], ""),
        ([1], "want a mapping"),
        ({"mindata": "x"}, "mindata is 'x', want a number"),
        ({"alwaysrun": 1}, "alwaysrun is 1, want a boolean"),
        ({"nosuch": 1}, "no setting nosuch"),
        ({"mindata": 0}, "mindata 0 is less than 1"),
    ],
)
def test_bad_settings(section: Any, text: str) -> None:
    config = Config({"predictor": "predictorconfig", "predictorconfig": section})
    if not text:
        assert predictor_config(config) == PredictorConfig()
        return
    with pytest.raises(ConfigError, match=text):
        predictor_config(config)
