"""The evaluated models of a store beside each other: in which settings they differ, and what each came to.

Every run of the graph leaves the records of its makings, so a table of trials is read and not kept.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smartdevdigest_ops.artifacts import ArtifactError, ArtifactStore, Making
from smartdevdigest_ops.evaluation.metrics.names import METRIC_TITLES
from smartdevdigest_ops.evaluation.report.verdict import format_interval
from smartdevdigest_ops.evaluation.systems import CANDIDATE
from smartdevdigest_ops.lineage.ancestry import nearest_ancestors

SHOWN_METRICS = ("rougeL", "chrf_plus_plus", "keyword_f1", "difficulty_mae", "difficulty_spearman")
# What feeds the models decides as much as how they are trained.
_DATA = ("corpus_snapshot", "labeled_pairs")
_MADE_BY = ("domain_tokenizer", "m1_checkpoint", "m2_adapter", "quantized_model")


@dataclass(frozen=True)
class Trial:
    """One evaluated model."""

    model: str
    """Version of quantized_model."""
    created: str
    """When its newest report was made."""
    settings: Mapping[str, Any]
    """What decided it, by dotted name; the versions of its data by asset."""
    report: Mapping[str, Any]
    """Content of report.json."""


def read_trials(store: ArtifactStore) -> list[Trial]:
    """One per model whose report is in the store, in the order of their reports."""
    newest: dict[str, Making] = {}
    for making in sorted(store.makings("evaluation_report"), key=lambda making: making.created):
        newest[str(making.inputs["quantized_model"])] = making
    trials = []
    for model, making in sorted(newest.items(), key=lambda entry: entry[1].created):
        try:
            file = store.open("evaluation_report", making.version).sound_file("report.json")
        except ArtifactError:
            continue  # pruned, or damaged: `verify` names it
        report = json.loads(file.read_text(encoding="utf-8"))
        trials.append(Trial(model, making.created, _settings_behind(store, model), report))
    return trials


def _settings_behind(store: ArtifactStore, model: str) -> dict[str, Any]:
    made = nearest_ancestors(store, ("quantized_model", None, model))
    settings: dict[str, Any] = {asset: made[asset].version[2] for asset in _DATA if asset in made}
    for asset in _MADE_BY:
        if asset in made and (making := made[asset].making) is not None:
            settings |= making.flat_settings | {f"{asset} code": making.code_version}
    return settings


def trial_lines(trials: Sequence[Trial]) -> Iterator[str]:
    """Markdown: a row per model and language, with the settings that are not the same in all."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.settings))
    differing = [name for name in names if len({json.dumps(trial.settings.get(name)) for trial in trials}) > 1]
    heads = ["model", "evaluated", *differing, "language", "n", *(METRIC_TITLES[name] for name in SHOWN_METRICS)]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for trial in trials:
        chosen = [json.dumps(trial.settings.get(name), ensure_ascii=False) for name in differing]
        for language, by_system in trial.report["languages"].items():
            figures = [
                format_interval(by_system[CANDIDATE][name]) if name in by_system[CANDIDATE] else "-"
                for name in SHOWN_METRICS
            ]
            count = str(trial.report["num_documents"][language])
            yield f"| {' | '.join([trial.model, trial.created[:16], *chosen, language, count, *figures])} |"
