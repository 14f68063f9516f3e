"""Agreement of two labels, by hand."""

from typing import Any

import pytest

from smartdevdigest_ops.contracts import DifficultyFactors, Label
from smartdevdigest_ops.labeling.agreement import (
    Comparison,
    agreement_markdown,
    is_asked_twice,
    measure_agreement,
)


def label(digits: tuple[int, int, int, int | None], language: str = "en") -> Label:
    names = ("technical_terms", "concept_complexity", "background_knowledge", "code_complexity")
    return Label(
        url="https://a.example/x", language=language, summary="s", keywords=[], prerequisites=[], technical_terms=[],
        difficulty_factors=DifficultyFactors(**dict(zip(names, digits, strict=True))),
    )  # fmt: skip


def compared(name: str, first: Any, second: Any, language: str = "en") -> Comparison:
    return Comparison(name, f"https://a.example/{name}", language, label(first, language), label(second, language))


def test_kappa_is_that_of_the_digits_and_null_is_counted_apart() -> None:
    comparisons = [
        compared("a", (1, 1, 3, None), (1, 5, 3, None)),
        compared("b", (2, 2, 3, 4), (2, 4, 3, 4)),
        compared("c", (4, 4, 3, 2), (4, 2, 3, None), "ko"),
        compared("d", (5, 5, 3, 1), (5, 1, 3, 1), "ko"),
    ]
    agreement = measure_agreement(comparisons, listed_difference=1.0)
    assert agreement.kappa["all"]["technical_terms"].mean == 1.0
    assert agreement.kappa["all"]["concept_complexity"].mean == -1.0  # exactly turned round
    assert agreement.kappa["all"]["background_knowledge"].mean is None  # one level only: undefined
    assert agreement.kappa["all"]["code_complexity"].n == 2
    assert agreement.kappa["ko"]["technical_terms"].n == 2
    assert agreement.share_differing_on_code["all"].mean == 0.25
    assert agreement.share_differing_on_code["ko"].mean == 0.5
    metrics = agreement.metrics()
    assert metrics["agreement_kappa_technical_terms"] == 1.0
    assert "agreement_kappa_background_knowledge" not in metrics
    # Scores: a 1.7 and 3.0, b 2.8 and 3.2 (3.25), c 3.2 (3.25) and 3.0, d 3.5 and 2.5.
    assert [one.score_difference for one in comparisons] == [1.3, 0.4, 0.2, 1.0]
    assert metrics["agreement_score_difference"] == pytest.approx(0.725)


def test_documents_far_apart_are_listed_the_farthest_first_and_no_url_breaks_the_table() -> None:
    comparisons = [
        compared("near", (3, 3, 3, None), (3, 3, 2, None)),
        compared("one-factor", (2, 4, 3, None), (4, 3, 2, None)),
        compared("far|x", (1, 1, 1, None), (5, 5, 5, None)),
    ]
    agreement = measure_agreement(comparisons, listed_difference=1.0)
    text = agreement_markdown(agreement, comparisons, listed_difference=1.0)
    assert agreement.num_to_look_at == 2
    assert text.index("far%7Cx") < text.index("one-factor")
    assert "near" not in text
    assert "| 1.0 (1 1 1 -) | 5.0 (5 5 5 -) |" in text
    row = comparisons[2].as_row(1.0)
    assert (row["score_difference"], row["to_look_at"], row["first"]["keywords"]) == (4.0, True, [])


def test_no_comparison_is_no_number() -> None:
    agreement = measure_agreement([], listed_difference=1.0)
    assert agreement.metrics() == {"agreement_documents": 0, "agreement_documents_to_look_at": 0}
    assert "undefined (n=0)" in agreement_markdown(agreement, [], 1.0)


def test_the_share_is_drawn_by_document_and_a_larger_one_holds_the_smaller() -> None:
    ids = [f"document {number}" for number in range(2000)]
    small, large = ({one for one in ids if is_asked_twice(one, share)} for share in (0.1, 0.3))
    assert small < large
    assert len(small) / len(ids) == pytest.approx(0.1, abs=0.03)
    assert not any(is_asked_twice(one, 0.0) for one in ids)
    assert all(is_asked_twice(one, 1.0) for one in ids)
