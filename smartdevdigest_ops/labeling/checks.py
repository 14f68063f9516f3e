"""The gates of `labeled_pairs`, on the files as they were written."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from smartdevdigest_ops.contracts import Label
from smartdevdigest_ops.corpus.read import read_split
from smartdevdigest_ops.corpus.url import canonical_url
from smartdevdigest_ops.stage import Check, CheckResult

CHECKS = (
    Check(
        "totals_reconcile",
        "Every document is labeled or left out with a reason; label lines and second opinions are accounted for.",
    ),
    Check("labels_are_valid", "Every label reads as contracts.Label, for its row's document and language."),
    Check("train_has_labels", "The train split has a labeled document: M2 has something to learn."),
    Check("every_split_has_labels", "Train, validation and test each have a labeled document.", blocking=False),
    Check("no_label_crosses_splits", "No document, by id and by canonical URL, is labeled in two splits."),
)

Pairs = Mapping[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class LabelCounts:
    """What came in and where it went."""

    num_documents: int
    num_labeled: int
    left_out: Mapping[str, int]
    """Documents by the reason they have no label."""
    num_lines: int
    num_rejected_lines: int
    num_replaced_labels: int
    num_labels_without_document: int
    num_joined_labels: int
    """Recorded labels whose document is in the corpus, used or left out."""
    num_second_opinions: int = 0
    num_compared: int = 0
    """Second opinions beside a first label."""
    second_opinions_left_out: Mapping[str, int] = field(default_factory=dict)
    """Second opinions that compare with nothing, by reason."""


def check_labels(directory: Path, counts: LabelCounts) -> tuple[CheckResult, ...]:
    """Every check, on the Parquet files in `directory`."""
    pairs = {split: read_split(directory, split) for split in ("train", "valid", "test")}
    return (
        check_totals(counts),
        check_valid(pairs),
        check_train(pairs),
        check_every_split(pairs),
        check_no_crossing(pairs),
    )


def check_totals(counts: LabelCounts) -> CheckResult:
    """`totals_reconcile`."""
    num_left_out = sum(counts.left_out.values())
    accounted = (
        counts.num_joined_labels
        + counts.num_labels_without_document
        + counts.num_replaced_labels
        + counts.num_rejected_lines
    )
    num_second_left_out = sum(counts.second_opinions_left_out.values())
    message = (
        f"{counts.num_documents} documents = {counts.num_labeled} labeled + {num_left_out} left out; "
        f"{counts.num_lines} label lines = {counts.num_joined_labels} joined + "
        f"{counts.num_labels_without_document} without document + {counts.num_replaced_labels} replaced + "
        f"{counts.num_rejected_lines} rejected."
    )
    if counts.num_second_opinions:
        message += (
            f" {counts.num_second_opinions} second opinions = {counts.num_compared} compared + {num_second_left_out} "
            "left out."
        )
    return CheckResult(
        "totals_reconcile",
        counts.num_documents == counts.num_labeled + num_left_out
        and counts.num_lines == accounted
        and counts.num_second_opinions == counts.num_compared + num_second_left_out,
        message,
        {"left_out": dict(counts.left_out), "second_opinions_left_out": dict(counts.second_opinions_left_out)},
    )


def check_valid(pairs: Pairs) -> CheckResult:
    """`labels_are_valid`."""
    problems = []
    rows = [row for split in pairs.values() for row in split]
    for row in rows:
        try:
            label = Label.model_validate(json.loads(row["label"]))
        except (ValidationError, ValueError) as error:
            problems.append(f"{row['url']}: {str(error).splitlines()[0]}")
            continue
        if (label.url, label.language) != (row["url"], row["language"]):
            problems.append(f"{row['url']}: the label is for {label.url} in {label.language}")
    message = f"{len(rows) - len(problems)} of {len(rows)} labels are valid; all must be."
    return CheckResult(
        "labels_are_valid", not problems, f"{message} The first that is not: {problems[0]}." if problems else message
    )


def check_train(pairs: Pairs) -> CheckResult:
    """`train_has_labels`."""
    number = len(pairs["train"])
    return CheckResult("train_has_labels", number > 0, f"{number} labeled documents to train on; at least 1 is needed.")


def check_every_split(pairs: Pairs) -> CheckResult:
    """`every_split_has_labels`, with the count of each language in each split."""
    counts = {
        f"{split}_{language}": number
        for split, rows in pairs.items()
        for language, number in sorted(Counter(row["language"] for row in rows).items())
    }
    empty = [split for split, rows in pairs.items() if not rows]
    message = ", ".join(f"{name} {number}" for name, number in counts.items()) or "no label in any split"
    if empty:
        message += f"; {', '.join(empty)} has none, so nothing can be measured there. Label more documents."
    return CheckResult("every_split_has_labels", not empty, message, counts)


def check_no_crossing(pairs: Pairs) -> CheckResult:
    """`no_label_crosses_splits`."""
    splits_by_identity: dict[str, set[str]] = {}
    for split, rows in pairs.items():
        for row in rows:
            for identity in (row["document_id"], canonical_url(row["url"])):
                splits_by_identity.setdefault(identity, set()).add(split)
    crossing = sorted(identity for identity, splits in splits_by_identity.items() if len(splits) > 1)
    message = f"{len(crossing)} documents are labeled in more than one split; none may be."
    return CheckResult(
        "no_label_crosses_splits", not crossing, f"{message} The first: {crossing[0]}." if crossing else message
    )
