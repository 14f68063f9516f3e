"""Loss against optimizer steps of the models that led to the candidate."""

import json
from pathlib import Path

MAX_POINTS = 200


def read_curve(file: Path, max_points: int = MAX_POINTS) -> list[dict[str, float]]:
    """Rows {step, loss[, held_out_loss]} of a training_curve.jsonl, at most `max_points` of them.

    Of a longer curve each row is the mean loss of as many steps as its neighbours', at the last of them, with the last
    held-out loss that was measured among them.
    """
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    size = -(-len(rows) // max_points) or 1
    curve = []
    for group in (rows[start : start + size] for start in range(0, len(rows), size)):
        row = {"step": group[-1]["step"], "loss": round(sum(each["loss"] for each in group) / len(group), 6)}
        measured = [each["held_out_loss"] for each in group if "held_out_loss" in each]
        curve.append(row | ({"held_out_loss": round(measured[-1], 6)} if measured else {}))
    return curve
