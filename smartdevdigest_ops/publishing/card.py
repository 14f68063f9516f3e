"""The model card: what a quantized_model is, learned from, scores, is for and is not for, in Hugging Face's format.

Source: Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv 1810.03993), section 4, for what a card says;
huggingface_hub's ModelCardData for its front matter.
"""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from smartdevdigest_ops.evaluation.metrics.names import METRIC_TITLES
from smartdevdigest_ops.evaluation.report.verdict import format_interval
from smartdevdigest_ops.evaluation.systems import CANDIDATE
from smartdevdigest_ops.publishing.facts import ModelFacts

_HUB = "hf:"
"""Prefix of a `model.base_model` that is on the Hub under the name behind it."""


def model_card(facts: ModelFacts, report: Mapping[str, Any] | None, *, name: str) -> str:
    """The card as Markdown with front matter; `report` is the evaluation_report of this model, None: not evaluated."""
    environment = Environment(
        loader=PackageLoader("smartdevdigest_ops.publishing", "."),
        autoescape=False,  # Markdown; what documents say never gets here
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["interval"] = format_interval
    environment.filters["json"] = partial(json.dumps, ensure_ascii=False)
    body = environment.get_template("card.md.jinja").render(
        facts=facts,
        report=report,
        name=name,
        candidate=CANDIDATE,
        titles=METRIC_TITLES,
        quantized=facts.metrics["quantized_model"],
        is_quantized=_is_quantized(facts),
    )
    front_matter = _front_matter(facts, report, name)
    card = ModelCard(f"---\n{front_matter.to_yaml()}\n---\n\n{body}", ignore_metadata_errors=False)
    return str(card)


def _is_quantized(facts: ModelFacts) -> bool:
    # The bits per quantized weight are measured of any model: 0 without GPTQ.
    return "num_quantized_layers" in facts.metrics["quantized_model"]


def _front_matter(facts: ModelFacts, report: Mapping[str, Any] | None, name: str) -> ModelCardData:
    hub_name = facts.base_model.removeprefix(_HUB).partition("@")[0] if facts.base_model.startswith(_HUB) else None
    return ModelCardData(
        base_model=hub_name,
        language=sorted(facts.num_documents),
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["summarization", "keyword-extraction", "smartdevdigest", *(["gptq"] if _is_quantized(facts) else [])],
        model_name=name if report else None,
        eval_results=_eval_results(report) if report else None,
        license=facts.terms.name if facts.terms else facts.license or "other",
        license_name=None if facts.license or facts.terms else "as-the-base-model",
        license_link=facts.terms.url if facts.terms else None,
    )


def _eval_results(report: Mapping[str, Any]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="text-generation",
            task_name="technical digest",
            dataset_type="private",
            dataset_name=f"held-out documents ({language})",
            metric_type=metric,
            metric_name=METRIC_TITLES[metric],
            metric_value=round(entry["mean"], 4),
        )
        for language, by_system in report["languages"].items()
        for metric, entry in by_system[CANDIDATE].items()
        if metric in METRIC_TITLES and entry["mean"] is not None
    ]
