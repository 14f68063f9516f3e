"""Judging the answers of a report's systems; what comes of it is `report["judge"]`: {"not_run": why}, or the following.

name, teacher           the model that judges, and whether it is behind an endpoint (openai) or of this machine
origin                  who said the gold that it judges by
reliable                whether its accuracy reaches min_accuracy; where not, its figures are marked and not used
known_answers           `figures.known_answers`: the judge judged, on pairs with a known answer
scores                  {language: {system: {dimension: {"mean", "low", "high", "n"}}}}, 1-5
wins                    {language: {other system: {"win_rate": interval, "wins", "ties", "losses"}}}
dimensions, min_accuracy, repeats, num_documents {language: n}
readings                {"by_probabilities", "by_digits", "unanswered"}: questions, by how their value was read
usage                   replies, tokens and cost of all answers that are used here, whichever making paid for them
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts import content_hash
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.evaluation.gold import TestDocument, origins, seen_by
from smartdevdigest_ops.evaluation.judge.figures import SystemSummaries, known_answers, scores, win_rates
from smartdevdigest_ops.evaluation.judge.judge import CACHE_DIRECTORY, Judge
from smartdevdigest_ops.evaluation.judge.known_answers import build_pairs
from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap
from smartdevdigest_ops.evaluation.systems import CANDIDATE, Answer
from smartdevdigest_ops.labeling.asking import MODELS_DIRECTORY
from smartdevdigest_ops.labeling.cache import AnswerCache
from smartdevdigest_ops.labeling.local import Machine
from smartdevdigest_ops.settings import JudgeSettings, ModelSettings

NOT_CONFIGURED = {"not_run": "no judge is configured (evaluation.judge.teacher is none)"}


@dataclass(frozen=True)
class Judged:
    """What came of judging."""

    section: Mapping[str, Any]
    """`report["judge"]`."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """For the making: what it paid, the judge's accuracy, and what a reliable judge says of the candidate."""


def judge_answers(
    documents: Sequence[TestDocument],
    answers: Mapping[str, Sequence[Answer]],
    *,
    settings: JudgeSettings,
    model: ModelSettings,
    seed: int,
    bootstrap: Bootstrap,
    store_dir: Path,
    making: str,
    log: Callable[[str], None],
) -> Judged:
    """Judge the answers of the candidate and of `settings.against` (system -> one per document, in order).

    What goes wrong costs the judgement, not the evaluation: it is logged, and the report says why nothing was judged.

    Args:
        documents: Those with a gold summary of the report's main origin are judged, `settings.max_documents` of them.
        answers: Of every system of the report.
        settings: Of the judge.
        model: Where a judge of this machine is computed.
        seed: Of the known-answer pairs.
        bootstrap: Of the intervals.
        store_dir: Answers are kept below it.
        making: For which answers are bought: what a killed run of it spent counts as its own.
        log: Takes a line.
    """
    if settings.teacher == "none":
        return Judged(NOT_CONFIGURED)
    chosen = choose_judged(documents, settings.max_documents)
    if not chosen:
        return Judged({"not_run": "no test document has a gold summary"})
    try:
        with AnswerCache(store_dir / CACHE_DIRECTORY, making) as cache:
            judge = Judge(settings, Machine(store_dir / MODELS_DIRECTORY, model), cache)
            try:
                summaries = _summaries(answers, list(chosen), settings)
                section = _judge(judge, list(chosen.values()), summaries, seed, bootstrap, log)
            except UserError as error:
                log(f"the judge is left out: {error}")
                section = {"not_run": str(error)}
            return Judged(section, _metrics(section, judge.usage_of_making()))
    except UserError as error:  # the cache, or the judge's own files
        log(f"the judge is left out: {error}")
        return Judged({"not_run": str(error)})


def choose_judged(documents: Sequence[TestDocument], max_documents: int) -> dict[int, TestDocument]:
    """Index -> document to judge, in order: with a gold summary of the report's main origin, half per language."""
    of_main = seen_by(documents, origins(documents)[0]) if documents else {}
    found = {index: document for index, document in of_main.items() if document.gold.summary}
    languages = sorted({document.language for document in found.values()})
    share = max(1, max_documents // max(1, len(languages)))
    chosen: list[int] = []
    for language in languages:
        of_language = [index for index, document in found.items() if document.language == language]
        chosen += sorted(of_language, key=lambda index: content_hash(documents[index].url))[:share]
    return {index: found[index] for index in sorted(chosen)}


def _summaries(
    answers: Mapping[str, Sequence[Answer]], chosen: Sequence[int], settings: JudgeSettings
) -> dict[str, list[str | None]]:
    systems = [CANDIDATE, *(system for system in settings.against if system in answers)]
    return {
        system: [(answers[system][index].digest or {}).get("summary") or None for index in chosen] for system in systems
    }


def _judge(
    judge: Judge,
    documents: Sequence[TestDocument],
    by_system: Mapping[str, Sequence[str | None]],
    seed: int,
    bootstrap: Bootstrap,
    log: Callable[[str], None],
) -> dict[str, Any]:
    settings = judge.settings
    summaries = SystemSummaries(documents, by_system, CANDIDATE)
    pairs = build_pairs(documents, by_system[CANDIDATE], settings, seed)
    of_pairs = [judgement for pair in pairs for judgement in pair.judgements()]
    of_systems = summaries.judgements(settings.dimensions, pairwise=settings.pairwise)
    log(judge.quote([*of_pairs, *of_systems]))
    judge.ask([*of_pairs, *of_systems])
    known = known_answers(judge, pairs, bootstrap)
    accuracy = known["total"]["mean"]
    section = {
        "name": judge.name,
        "teacher": settings.teacher,
        "origin": documents[0].gold.origin,
        "reliable": accuracy is not None and accuracy >= settings.min_accuracy,
        "known_answers": known,
        "scores": scores(judge, summaries, settings.dimensions, bootstrap),
        "wins": win_rates(judge, summaries, bootstrap) if settings.pairwise and summaries.others else {},
        "dimensions": list(settings.dimensions),
        "min_accuracy": settings.min_accuracy,
        "repeats": settings.repeats,
        "num_documents": {
            language: sum(document.language == language for document in documents)
            for language in sorted({document.language for document in documents})
        },
        "readings": judge.readings(),
        "usage": judge.usage(),
    }
    log(describe_accuracy(section))
    return section


def describe_accuracy(section: Mapping[str, Any]) -> str:
    """One sentence on how far the judge can be believed."""
    total, least = section["known_answers"]["total"], section["min_accuracy"]
    if total["mean"] is None:
        return f"The judge {section['name']} is unreliable: there was no pair with a known answer to judge it by."
    return (
        f"The judge {section['name']} is {'reliable' if section['reliable'] else 'unreliable'}: it was right in "
        f"{total['mean']:.3f} [{total['low']:.3f}, {total['high']:.3f}] of {total['n']} tests with a known answer; "
        f"{least:g} is needed."
    )


def _metrics(section: Mapping[str, Any], paid: Mapping[str, Any]) -> dict[str, float]:
    metrics = {f"judge_{name}": float(value) for name, value in paid.items() if not isinstance(value, str)}
    if "not_run" in section:
        return metrics
    accuracy = section["known_answers"]["total"]["mean"]
    figures = {"judge_accuracy": accuracy}
    if section["reliable"]:
        figures |= {
            f"judged_{dimension}_{language}": interval["mean"]
            for language, by_system in section["scores"].items()
            for dimension, interval in by_system[CANDIDATE].items()
        }
    return metrics | {name: value for name, value in figures.items() if value is not None}
