"""What Dagster shows of a training that is over."""

import json
from pathlib import Path

import dagster as dg

from smartdevdigest_assets.resources import ComputeResource, StageRunner
from smartdevdigest_ops.artifacts import ArtifactStore, Making

USED = {"device": "cpu", "wall_seconds": 1.0, "peak_rss_bytes": 1, "peak_gpu_bytes": None}


def metadata_of(tmp_path: Path, files: dict[str, str]) -> dict[str, dg.MetadataValue]:
    store = ArtifactStore(tmp_path)
    with store.staging("m1_checkpoint") as staged:
        for name, text in files.items():
            (staged / name).write_text(text, encoding="utf-8")
        version = store.publish(staged, "m1_checkpoint").version
    making = Making("m1_checkpoint", None, version, "f", {}, {}, "1", {}, USED, {}, [])
    return dict(StageRunner(compute=ComputeResource())._result(making, store, made=True).metadata)


def test_the_curve_of_a_training_is_a_table_of_a_dozen_rows_beside_its_metrics(tmp_path: Path):
    rows = [{"step": step, "loss": 3.0 - step / 100} for step in range(1, 121)]
    rows[-1]["held_out_loss"] = 2.5
    curve = metadata_of(tmp_path, {"training_curve.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})
    lines = curve["training_curve"].value.splitlines()
    assert lines[0] == "| step | train loss | held-out loss |"
    assert len(lines) == 2 + 12
    assert lines[2] == "| 10 | 2.945 |  |"
    assert lines[-1] == "| 120 | 1.845 | 2.500 |"


def test_an_artifact_that_was_not_trained_has_no_curve(tmp_path: Path):
    assert "training_curve" not in metadata_of(tmp_path, {"tokenizer.json": "{}"})
