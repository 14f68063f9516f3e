from pathlib import Path

import dagster as dg

from smartdevdigest_assets.headless import dagster_instance
from smartdevdigest_assets.release import report_decision
from smartdevdigest_ops.artifacts import Making


def test_a_decision_is_shown_with_its_reason_and_the_version_that_it_made_current(tmp_path: Path) -> None:
    decision = {"by": "rollback", "why": "too slow", "when": "2026-11-30T05:00:00+00:00", "from": "b", "to": "a"}
    notes = {"decision": decision, "markdown": "- rollback: too slow"}
    making = Making("release", None, "a" * 16, "f", {}, {}, "1", {}, {}, {"accepted": 1.0}, [], notes)
    with dagster_instance(tmp_path) as instance:
        report_decision(instance, making)
        event = instance.get_latest_materialization_event(dg.AssetKey("release"))
    shown = event.asset_materialization
    assert shown.metadata["decision"].value == decision
    assert shown.description == "rollback: too slow"
    assert shown.tags["dagster/data_version"] == "a" * 16
