"""Curves of training as the report shows them."""

import json
from pathlib import Path

from smartdevdigest_ops.evaluation.report.training_curves import read_curve


def _write(file: Path, losses: list[float], held_out: dict[int, float]) -> Path:
    rows = [
        {"step": step, "loss": loss, "tokens": 9} | ({"held_out_loss": held_out[step]} if step in held_out else {})
        for step, loss in enumerate(losses, 1)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_a_short_curve_is_kept_row_by_row(tmp_path: Path) -> None:
    file = _write(tmp_path / "curve.jsonl", [3.0, 2.0], {2: 2.5})
    assert read_curve(file) == [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "held_out_loss": 2.5}]


def test_a_long_curve_is_averaged_and_loses_no_last_step(tmp_path: Path) -> None:
    file = _write(tmp_path / "curve.jsonl", [4.0, 2.0, 3.0, 1.0, 0.5], {3: 9.0, 4: 8.0})
    assert read_curve(file, max_points=3) == [
        {"step": 2, "loss": 3.0},
        {"step": 4, "loss": 2.0, "held_out_loss": 8.0},
        {"step": 5, "loss": 0.5},
    ]


def test_a_training_without_steps_has_an_empty_curve(tmp_path: Path) -> None:
    assert read_curve(_write(tmp_path / "curve.jsonl", [], {})) == []
