"""What a report must show before its candidate may be released."""

from smartdevdigest_ops.evaluation.evaluate import Report
from smartdevdigest_ops.evaluation.report.verdict import format_interval, outcome
from smartdevdigest_ops.evaluation.systems import CANDIDATE, LEAD3
from smartdevdigest_ops.stage import Check, CheckResult

# Contradictory Korean that shares two Latin words: ROUGE-L measured 0.15.
_MOST_CONTRADICTORY_ROUGE = 0.2
# Two pages may list the same words by chance: keyword lists found elsewhere are in the report, and block nothing.
_FORBIDDEN = {"url": "address", "content": "text", "cluster": "near-duplicate", "gold_summary": "gold summary"}

CHECKS = (
    Check("candidate_outputs_are_valid", "Every answer of the candidate is a valid digest."),
    Check("every_metric_has_an_interval", "No figure is reported without its bounds."),
    Check("korean_rouge_is_sound", "Korean ROUGE is 1 for equal texts and near 0 for contradictory ones."),
    Check("candidate_beats_lead3", "The candidate's summaries are better than Lead-3's, per language.", False),
    Check("no_test_document_in_train", "No test document, near-duplicate or gold text was trained on."),
)


def check_outputs_are_valid(report: Report) -> CheckResult:
    """Every answer of the candidate is a digest of the contract."""
    valid = report["valid_json_rate"][CANDIDATE]
    num_valid = round(valid["mean"] * valid["n"])
    return CheckResult(
        "candidate_outputs_are_valid",
        num_valid == valid["n"],
        f"{num_valid} of {valid['n']} answers are valid digests; all must be.",
        {"valid_json_rate": valid["mean"]},
    )


def check_every_metric_has_an_interval(report: Report) -> CheckResult:
    """Every figure that is defined has bounds around it, and every language has figures."""
    missing = [
        f"{name} of {system} in {language}"
        for language, by_system in report["languages"].items()
        for system, by_name in by_system.items()
        for name, entry in by_name.items()
        if entry["mean"] is not None and (entry["low"] is None or entry["high"] is None or entry["low"] > entry["high"])
    ]
    figures = sum(len(by_name) for by_system in report["languages"].values() for by_name in by_system.values())
    return CheckResult(
        "every_metric_has_an_interval",
        not missing and figures > 0,
        f"{figures - len(missing)} of {figures} figures have an interval"
        + (f"; without: {', '.join(missing[:5])}" if missing else "."),
    )


def check_korean_rouge(identical: float, contradictory: float) -> CheckResult:
    """Korean ROUGE-L tells the same text from one that says the opposite."""
    return CheckResult(
        "korean_rouge_is_sound",
        identical == 1.0 and contradictory <= _MOST_CONTRADICTORY_ROUGE,
        f"ROUGE-L of a Korean text with itself is {identical:.3f} (must be 1), with its contradiction that shares two "
        f"Latin words {contradictory:.3f} (at most {_MOST_CONTRADICTORY_ROUGE}).",
        {"identical": identical, "contradictory": contradictory},
    )


def check_candidate_beats_lead3(report: Report) -> CheckResult:
    """In every language the interval of the candidate's ROUGE-L minus Lead-3's lies above 0."""
    lead = {
        language: others[LEAD3]["rougeL"]
        for language, others in report["comparisons"].items()
        if "rougeL" in others[LEAD3]  # people may have given levels alone
    }
    return CheckResult(
        "candidate_beats_lead3",
        bool(lead) and all(outcome(difference, "rougeL") == "better" for difference in lead.values()),
        "ROUGE-L, candidate minus Lead-3: "
        + (
            "; ".join(
                f"{language} {format_interval(difference, signed=True)} on {difference['n']} documents, "
                + outcome(difference, "rougeL")
                for language, difference in lead.items()
            )
            or "no test document has a gold summary."
        ),
    )


def check_no_test_document_in_train(report: Report) -> CheckResult:
    """Nothing that is tested on, or its gold, is among what the models were trained on."""
    looked_for = [kind for kind in _FORBIDDEN if kind in report["leakage"]]
    leaks = [
        f"{leak['url']} ({kind}, in {leak['train_url']})" for kind in looked_for for leak in report["leakage"][kind]
    ]
    num_documents = report["valid_json_rate"][CANDIDATE]["n"]
    return CheckResult(
        "no_test_document_in_train",
        not leaks,
        f"{len(leaks)} leaks of {num_documents} test documents into the train split, looked for by "
        f"{', '.join(_FORBIDDEN[kind] for kind in looked_for)}." + (f" Found: {'; '.join(leaks[:3])}" if leaks else ""),
        {"num_leaks": len(leaks)},
    )
