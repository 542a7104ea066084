"""What an evaluation is told: from the configuration, what was asked for, and what was opened for it."""

from __future__ import annotations

from reflow.core.assertion import AssertionKey, Assertions
from reflow.core.errors import Kind, ReflowError
from reflow.eval import CacheMode, EvalConfig, Report, SpanTaker
from reflow.runtime.config import Config
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
    span: SpanTaker | None = None,
) -> EvalConfig:
    """What the evaluation of a run is told. The cluster must have chosen its executor."""
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
        key_namespace=cluster.key_namespace,
        current_assertions=_nothing_is_known if request.assert_policy == "exact" else None,
        hash_files=stores.inputs.hash_files,
        span=span,
    )


async def _nothing_is_known(key: AssertionKey) -> Assertions:
    """What the policy *exact* is told of things elsewhere, while no store elsewhere is supported."""
    raise ReflowError(Kind.NOT_SUPPORTED, "assert", key, cause="no store can tell what is true of this now")
