"""How answers were generated, whatever they say: valid, refused, cut off, how long."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from smartdevdigest_ops.evaluation.systems import Answer


def generation_counts(answers: Mapping[str, Sequence[Answer]]) -> dict[str, dict[str, Any]]:
    """System -> counts over all its answers, of the systems that generate.

    `refused` are documents without a digest, by reason; `truncated_documents` those that the prompts did not hold
    whole; the rest is what was left out of answers (`Corrections`), and tokens written.
    """
    return {
        system: _counts(given)
        for system, given in answers.items()
        if any(answer.num_new_tokens is not None for answer in given)
    }


def seconds_per_document(answers: Mapping[str, Sequence[Answer]]) -> dict[str, float]:
    """System -> mean seconds of its answers that were timed, of the systems that have such.

    Differs from run to run: for the record of a making, never for the report.
    """
    timed = {system: [one.seconds for one in given if one.seconds is not None] for system, given in answers.items()}
    return {system: round(sum(seconds) / len(seconds), 4) for system, seconds in timed.items() if seconds}


def _counts(answers: Sequence[Answer]) -> dict[str, Any]:
    corrections: Counter[str] = Counter()
    for answer in answers:
        corrections.update(answer.corrections or {})
    refused = Counter(answer.error or "no reason was given" for answer in answers if not answer.valid)
    shares = [answer.covered_share for answer in answers if answer.valid and answer.covered_share is not None]
    num_tokens = sum(answer.num_new_tokens or 0 for answer in answers)
    return {
        "num_documents": len(answers),
        "num_valid": sum(answer.valid for answer in answers),
        "refused": dict(sorted(refused.items())),
        "truncated_documents": sum(share < 1 for share in shares),
        "mean_covered_share": round(sum(shares) / len(shares), 6) if shares else None,
        "answers_with_cut_items": sum(bool((answer.corrections or {}).get("cut_items")) for answer in answers),
        **{name: corrections[name] for name in sorted(corrections)},
        "num_new_tokens": num_tokens,
        "new_tokens_per_document": round(num_tokens / len(answers), 3),
    }
