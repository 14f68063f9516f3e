"""Two small stages for test_stage.py: `words` counts the words of a file, per partition; `total` adds them up."""

import json
import time
from pathlib import Path

from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.stage import Check, CheckResult, Stage, StageContext, StageReport


def make_words(context: StageContext) -> StageReport:
    """Words of `<store>/<partition>.txt`."""
    text = (context.store.root / f"{context.partition}.txt").read_text()
    if text == "refuse":
        raise UserError("words: the file asks to be refused")
    if text == "sleep":
        (context.store.root / "sleeping").write_text("")
        time.sleep(60)
    (context.out / "words.json").write_text(json.dumps(text.split()))
    (context.out / "length.json").write_text(str(len(text)))
    return StageReport({"num_words": len(text.split())})


def make_total(context: StageContext) -> StageReport:
    """Sum over partitions; `seed` is added so that a setting counts."""
    parts = context.partitions("words").values()
    total = sum(len(json.loads((part.path / "words.json").read_text())) for part in parts)
    (context.out / "total.txt").write_text(str(total + context.settings.seed))
    calls = context.scratch / "calls"
    calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
    return StageReport({"total": total}, (CheckResult("small", total < 100, f"{total} words, at most 99"),))


def make_meddler(context: StageContext) -> StageReport:
    """Reads a setting that it does not declare."""
    return StageReport({"length": context.settings.model.max_length})


def make_forgetful(context: StageContext) -> StageReport:
    """Does not report the check that it declares."""
    return StageReport({})


def _file(settings, store, partition) -> list[Path]:
    return [store.root / f"{partition}.txt"]


STAGES = (
    Stage("words", make_words, "1", partitioned=True, outside_files=_file),
    Stage("total", make_total, "1", inputs=("words",), settings=("seed",), checks=(Check("small", "Few words."),)),
    Stage("meddler", make_meddler, "1", settings=("model.base_model",)),
    Stage("forgetful", make_forgetful, "1", checks=(Check("promised", "Never reported."),)),
    Stage(
        "length_of",
        lambda context: StageReport({"n": 1.0}),
        "1",
        inputs=("snapshot",),
        partitioned=True,
        input_files={"snapshot": "{partition}.txt"},
    ),
    Stage("snapshot", lambda context: StageReport({}), "1"),
)
