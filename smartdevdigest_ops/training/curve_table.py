"""The curve of a training as Markdown, short enough to be read beside its metrics."""

from pathlib import Path

from smartdevdigest_ops.evaluation.report.training_curves import read_curve
from smartdevdigest_ops.training.trainer.run import CURVE_FILE

MAX_ROWS = 12


def curve_table(directory: Path, max_rows: int = MAX_ROWS) -> str | None:
    """Step, train loss (the mean of the steps since the row before) and held-out loss; None where nothing was trained.

    `directory` is the artifact of a training, which holds its `training_curve.jsonl`.
    """
    file = directory / CURVE_FILE
    if not file.is_file():
        return None
    lines = ["| step | train loss | held-out loss |", "|---:|---:|---:|"]
    for row in read_curve(file, max_rows):
        held_out = f"{row['held_out_loss']:.3f}" if "held_out_loss" in row else ""
        lines.append(f"| {row['step']} | {row['loss']:.3f} | {held_out} |")
    return "\n".join(lines)
