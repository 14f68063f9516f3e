"""What quantizing changed in answers."""

from dataclasses import replace

from smartdevdigest_ops.contracts import Difficulty
from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.evaluation.metrics.quantization_delta import quantization_delta
from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap
from smartdevdigest_ops.evaluation.systems import CANDIDATE, UNQUANTIZED, Answer

BOOTSTRAP = Bootstrap(num_samples=100, confidence=0.95, seed=17)


def _answer(system: str, url: str, score: float, summary: str = "same") -> Answer:
    difficulty = Difficulty.of(score).model_dump()
    return Answer(system, url, {"summary": summary, "difficulty_level": difficulty}, True)


def test_shift_keeps_its_sign_and_distance_does_not(gold_documents: list[TestDocument]) -> None:
    documents = gold_documents[:4]
    scores = [(3.0, 3.5), (2.0, 1.5), (4.0, 4.0), (1.0, 2.0)]
    new = [_answer(CANDIDATE, d.url, score) for d, (score, _) in zip(documents, scores, strict=True)]
    old = [_answer(UNQUANTIZED, d.url, score) for d, (_, score) in zip(documents, scores, strict=True)]
    old[0] = _answer(UNQUANTIZED, documents[0].url, 3.5, "another")
    delta = quantization_delta(documents, new, old, BOOTSTRAP)
    assert delta["difficulty_shift"]["mean"] == -0.25
    assert delta["difficulty_distance"]["mean"] == 0.5
    assert delta["same_summary"]["mean"] == 0.75


def test_documents_that_one_of_the_two_did_not_digest_are_not_compared(gold_documents: list[TestDocument]) -> None:
    documents = gold_documents[:2]
    new = [_answer(CANDIDATE, d.url, 3.0) for d in documents]
    old = [_answer(UNQUANTIZED, documents[0].url, 2.0), Answer(UNQUANTIZED, documents[1].url, None, False)]
    delta = quantization_delta(documents, new, old, BOOTSTRAP)
    assert (delta["difficulty_shift"]["mean"], delta["difficulty_shift"]["n"]) == (1.0, 1)
    assert quantization_delta(documents, new, [replace(answer, digest=None) for answer in old], BOOTSTRAP) == {}
