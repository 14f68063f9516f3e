"""The code location: every asset, job, sensor and resource, merged once."""

import dagster as dg

from smartdevdigest_assets import (
    automation,
    base_model,
    corpus,
    crawl,
    digests,
    evaluation,
    labels,
    m1,
    m2,
    quantized,
    release,
    tokenizer,
)
from smartdevdigest_assets.resources import ComputeResource, StageRunner

compute = ComputeResource()

defs = dg.Definitions(
    assets=dg.load_assets_from_modules(
        [base_model, crawl, corpus, tokenizer, m1, labels, m2, quantized, evaluation, release, digests]
    ),
    jobs=[automation.ingest_drop, automation.refresh, automation.digest_drop],
    sensors=[automation.new_drops],
    schedules=[automation.nightly_refresh],
    resources={"compute": compute, "stages": StageRunner(compute=compute)},
    # forkserver: a step starts in less than half the time of spawn, and the preload costs no torch.
    executor=dg.multiprocess_executor.configured(
        {"start_method": {"forkserver": {"preload_modules": ["smartdevdigest_assets.definitions"]}}}
    ),
)
