"""The code location: every asset, job, sensor and resource, merged once."""

import dagster as dg

from smartdevdigest_assets import (
    automation,
    base_model,
    corpus,
    crawl,
    digests,
    evaluation,
    housekeeping,
    incoming,
    labels,
    m1,
    m2,
    quantized,
    refused,
    release,
    sources,
    tokenizer,
)
from smartdevdigest_assets.execution import step_executor
from smartdevdigest_assets.project import SETTINGS
from smartdevdigest_assets.resources import ComputeResource, StageRunner

compute = ComputeResource()

defs = dg.Definitions(
    assets=[
        refused.refused_drops,
        *dg.load_assets_from_modules(
            [base_model, crawl, corpus, tokenizer, m1, labels, m2, quantized, evaluation, release, digests]
        ),
    ],
    asset_checks=[refused.nothing_refused],
    jobs=[
        incoming.ingest_drop,
        incoming.identify_drop,
        automation.refresh,
        automation.digest_drop,
        sources.crawl_sources,
        housekeeping.prune_store,
    ],
    sensors=[incoming.new_drops, automation.keep_up_to_date],
    schedules=[sources.daily_crawl, housekeeping.weekly_prune],
    resources={"compute": compute, "stages": StageRunner(compute=compute)},
    executor=step_executor(SETTINGS),
)
