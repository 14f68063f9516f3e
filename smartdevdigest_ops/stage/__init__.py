"""A stage: how one asset is made, and `python -m smartdevdigest_ops.stage NAME SPEC.json` that makes it.

A stage is a function `make(context) -> StageReport` that reads its inputs' directories and writes into
`context.out`. What decides its result is declared: input assets, sections of the settings, files from outside and a
code version. Their hash is the making's fingerprint; a fingerprint that was made before is not made again.

The same spec runs in this process (light stages, notebooks), in a process of its own under Dagster Pipes, or on
another machine that sees the store: the stage does not know which.
"""

from smartdevdigest_ops.stage.declaration import (
    Check,
    CheckResult,
    Stage,
    StageContext,
    StageError,
    StageReport,
)
from smartdevdigest_ops.stage.planning import StageSpec, is_fresh, plan_stage
from smartdevdigest_ops.stage.registry import STAGE_MODULES, code_version, get_stage
from smartdevdigest_ops.stage.running import find_making, run_stage

__all__ = [
    "STAGE_MODULES",
    "Check",
    "CheckResult",
    "Stage",
    "StageContext",
    "StageError",
    "StageReport",
    "StageSpec",
    "code_version",
    "find_making",
    "get_stage",
    "is_fresh",
    "plan_stage",
    "run_stage",
]
