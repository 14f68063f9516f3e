"""The candidate's difficulty scores in detail: levels confused, calibration, the four factors."""

from collections.abc import Mapping, Sequence
from typing import Any

from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.evaluation.metrics.scores import factor_metrics, rated_documents
from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap
from smartdevdigest_ops.evaluation.statistics.ordinal import NUM_LEVELS, confusion, levels
from smartdevdigest_ops.evaluation.systems import Answer


def confusion_table(documents: Sequence[TestDocument], answers: Sequence[Answer]) -> list[list[int]] | None:
    """Documents by gold level (rows) and answered level (columns); None without gold."""
    import numpy as np

    rated = rated_documents(documents, answers)
    if not rated:
        return None
    gold, answered, _ = zip(*rated, strict=True)
    return confusion(np.asarray(gold, dtype=np.float64), np.asarray(answered, dtype=np.float64))


def calibration_table(
    documents: Sequence[TestDocument], answers: Sequence[Answer], bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """Per answered level that occurs: mean answered score, and gold's mean with its interval.

    A calibrated system's two means agree in every row. Documents without an answer are in no row.
    """
    import numpy as np

    valid = [pair for pair in zip(documents, answers, strict=True) if pair[1].digest]
    rated = rated_documents([document for document, _ in valid], [answer for _, answer in valid])
    if not rated:
        return []
    binned = levels(np.asarray([answered for _, answered, _ in rated], dtype=np.float64))
    rows = []
    for level in range(1, NUM_LEVELS + 1):
        inside = [entry for entry, bin_of in zip(rated, binned, strict=True) if bin_of == level]
        if inside:
            gold, answered, units = zip(*inside, strict=True)
            rows.append(
                {
                    "level": level,
                    "answered": round(sum(answered) / len(answered), 6),
                    "gold": bootstrap.mean(gold, units).as_dict(),
                }
            )
    return rows


def factor_table(
    documents: Sequence[TestDocument], answers: Mapping[str, Sequence[Answer]], bootstrap: Bootstrap
) -> dict[str, Any]:
    """System -> factor -> metric -> its interval, of the systems that answer with factors."""
    tables = {system: factor_metrics(documents, given) for system, given in answers.items()}
    return {
        system: {
            factor: {name: metric.interval(bootstrap).as_dict() for name, metric in by_name.items()}
            for factor, by_name in table.items()
        }
        for system, table in tables.items()
        if table
    }
