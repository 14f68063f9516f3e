"""What quantizing changed in a model's answers, beside the metrics against gold that both are compared by."""

from collections.abc import Sequence
from typing import Any

from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap
from smartdevdigest_ops.evaluation.systems import Answer


def quantization_delta(
    documents: Sequence[TestDocument],
    quantized: Sequence[Answer],
    unquantized: Sequence[Answer],
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Of the documents that both digested, with intervals.

    `difficulty_shift` is the mean of quantized minus unquantized score (levels, signed), `difficulty_distance` of its
    size, `same_summary` the share of equal summaries. Empty where no document was digested by both.
    """
    pairs = [
        (document.sampling_unit, new.digest, old.digest)
        for document, new, old in zip(documents, quantized, unquantized, strict=True)
        if new.digest and old.digest
    ]
    if not pairs:
        return {}
    units = [unit for unit, _, _ in pairs]
    shifts = [new["difficulty_level"]["score"] - old["difficulty_level"]["score"] for _, new, old in pairs]
    same = [float(new["summary"] == old["summary"]) for _, new, old in pairs]
    return {
        "difficulty_shift": bootstrap.mean(shifts, units).as_dict(),
        "difficulty_distance": bootstrap.mean([abs(shift) for shift in shifts], units).as_dict(),
        "same_summary": bootstrap.mean(same, units).as_dict(),
    }
