"""What an evaluation is told: from the configuration, what was asked for, and what was opened for it."""

from __future__ import annotations

from collections.abc import Collection

from reflow.eval import CacheMode, EvalConfig, Foresight, Report, SpanTaker
from reflow.eval.predict import PredictorConfig
from reflow.runtime.config import Config, ConfigError
from reflow.runtime.localcluster import LocalCluster
from reflow.runtime.request import RunRequest
from reflow.runtime.stores import Stores

CACHE_MODES = {
    "off": CacheMode.OFF,
    "read": CacheMode.READ,
    "write": CacheMode.WRITE,
    "readwrite": CacheMode.READWRITE,
}


def eval_config(
    config: Config,
    request: RunRequest,
    stores: Stores,
    cluster: LocalCluster,
    report: Report,
    images: Collection[str],
    span: SpanTaker | None = None,
    predict: Foresight | None = None,
) -> EvalConfig:
    """What the evaluation of a run is told. The cluster must have chosen its executor.

    ``images`` are those of the execs that the program had built when it was loaded.
    """
    matches = request.invalidate
    return EvalConfig(
        scheduler=cluster,
        repository=stores.repository,
        assoc=stores.assoc,
        report=report,
        cache=CACHE_MODES[config.cache],
        bottom_up=request.bottom_up,
        keep_going=request.keep_going,
        recompute_empty=request.recompute_empty,
        invalidate=None if matches is None else lambda flow: matches(flow.ident),
        resolve_image=cluster.resolve_image,
        images=frozenset(images),
        key_namespace=cluster.key_namespace,
        snapshot=stores.snapshot,
        current_assertions=stores.assertions if request.assert_policy == "exact" else None,
        hash_files=stores.inputs.hash_files,
        keep_files=stores.keep_files if stores.is_shared else None,
        span=span,
        predict=predict,
    )


def foresight(config: Config, request: RunRequest, stores: Stores, report: Report) -> Foresight | None:
    """What tells how much memory execs need; None when nobody wants to know. Raises ConfigError.

    As the original, it wants the key ``predictor`` set.
    """
    if not request.predicts:
        return None
    if not config.provider("predictor"):
        raise ConfigError("run -pred: the key predictor is not set; write predictor: predictorconfig")
    if stores.taskdb is None:
        raise ConfigError("run -pred learns from the record of earlier runs: the key taskdb is not set")
    from reflow.runtime.predictor import Predictor
    from reflow.runtime.predictorconfig import predictor_config

    settings = predictor_config(config) or PredictorConfig()
    return Predictor(stores.taskdb, settings, debug=lambda text: report.message("debug", text)).predict
