"""What a model card has to say, gathered from the records of the makings behind a quantized_model."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from smartdevdigest_ops.artifacts import Artifact, ArtifactError, ArtifactStore
from smartdevdigest_ops.lineage.ancestry import nearest_ancestors
from smartdevdigest_ops.models.terms import Terms, terms_of

_SHOWN_SOURCES = 20
_NEEDED = ("base_model", "domain_tokenizer", "corpus_snapshot", "labeled_pairs", "m1_checkpoint", "m2_adapter")
_TRAINED_BY = ("domain_tokenizer", "m1_checkpoint", "m2_adapter", "quantized_model")


@dataclass(frozen=True)
class ModelFacts:
    """Of one quantized_model."""

    version: str
    base_model: str
    """As `model.base_model` named it."""
    base_revision: str
    license: str | None
    """As the base model states it."""
    terms: Terms | None
    num_parameters: int
    max_length: int
    ancestors: Mapping[str, str]
    """Asset -> version of what it was made from, the nearest where there are several (`nearest_ancestors`)."""
    settings: Mapping[str, Any]
    """Of tokenizer, training and quantization, by dotted name."""
    metrics: Mapping[str, Mapping[str, float]]
    """Asset -> what its making measured."""
    num_documents: Mapping[str, int] = field(default_factory=dict)
    """Language -> documents that M1 trained on."""
    num_labels: int = 0
    """Documents whose labels M2 trained on."""
    sources: tuple[tuple[str, str, int], ...] = ()
    """(site, language, documents) trained on, the largest first; the last may be all others together."""


def gather_facts(store: ArtifactStore, model: Artifact) -> ModelFacts:
    """Facts of a quantized_model of this store.

    Raises:
        ArtifactError: a record of what it was made from is gone.
    """
    nearest = nearest_ancestors(store, ("quantized_model", None, model.version))
    makings = {asset: each.making for asset, each in nearest.items() if each.making}
    if missing := [name for name in _NEEDED if name not in makings]:
        raise ArtifactError(
            f"{store.root}: no record says how the {', '.join(missing)} behind quantized_model {model.version} came to "
            "be, so a card cannot say what the model comes from. Run `smartdevdigest verify`."
        )
    base = makings["base_model"]
    settings: dict[str, Any] = {}
    for name in _TRAINED_BY:
        settings |= makings[name].flat_settings
    base_model = str(base.notes["base_model"])
    snapshot = store.open("corpus_snapshot", makings["m1_checkpoint"].inputs["corpus_snapshot"])
    pairs = store.open("labeled_pairs", makings["m2_adapter"].inputs["labeled_pairs"])
    by_source = _documents_by_source(snapshot.path / "train.parquet")
    languages: Counter[str] = Counter()
    for (_, language), count in by_source.items():
        languages[language] += count
    return ModelFacts(
        version=model.version,
        base_model=base_model,
        base_revision=str(base.notes["revision"]),
        license=base.notes["license"],
        terms=terms_of(base_model, base.notes["license"]),
        num_parameters=int(base.metrics["num_parameters"]),
        max_length=int(json.loads((model.path / "digest_config.json").read_text(encoding="utf-8"))["max_length"]),
        ancestors={name: makings[name].version for name in sorted(makings)},
        settings=dict(sorted(settings.items())),
        metrics={name: makings[name].metrics for name in makings},
        num_documents=dict(sorted(languages.items())),
        num_labels=_num_rows(pairs.path / "train.parquet"),
        sources=_largest(by_source),
    )


def _documents_by_source(train: Path) -> Counter[tuple[str, str]]:
    """Documents of a split by (site, language)."""
    import pyarrow.parquet as pq

    counted: Counter[tuple[str, str]] = Counter()
    with pq.ParquetFile(train) as file:
        for batch in file.iter_batches(columns=["url", "language"]):
            for row in batch.to_pylist():
                counted[urlsplit(row["url"]).hostname or row["url"], row["language"]] += 1
    return counted


def _largest(by_source: Mapping[tuple[str, str], int]) -> tuple[tuple[str, str, int], ...]:
    ranked = sorted(by_source.items(), key=lambda entry: (-entry[1], entry[0]))
    shown = [(site, language, count) for (site, language), count in ranked[:_SHOWN_SOURCES]]
    if rest := ranked[_SHOWN_SOURCES:]:
        shown.append((f"{len(rest)} others", "", sum(count for _, count in rest)))
    return tuple(shown)


def _num_rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)
