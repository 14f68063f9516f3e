"""Whether what is tested on was trained on: by address, text, near-duplicates, and gold texts inside training texts.

Training texts are the documents of the train split and the labels for them. Texts are compared folded (case, width,
white space). A gold keyword by itself is a word of the language, so keywords count as found where the whole list
stands, three or more of them, as a label writes it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from smartdevdigest_ops.artifacts import content_hash
from smartdevdigest_ops.digesting.answer import folded
from smartdevdigest_ops.evaluation.gold import TestDocument

LEAKS = {
    "url": "test documents whose address is in the train split",
    "content": "test documents whose text is in the train split",
    "cluster": "test documents with a near-duplicate or translation in the train split",
    "gold_summary": "gold summaries that stand in a training text",
    "gold_keywords": "gold keyword lists that stand in a training text",
}
_FEWEST_KEYWORDS = 3
# A shorter summary may be a phrase that anybody writes.
_FEWEST_CHARACTERS = 30

Audit = dict[str, list[dict[str, str]]]


def audit_leakage(documents: Sequence[TestDocument], train_rows: Iterable[Mapping[str, Any]]) -> Audit:
    """Kind of leak (`LEAKS`) -> [{"url" of the test document, "train_url"}], all empty where nothing leaked.

    `cluster` is absent where no document has one, as those of files: near-duplicates were not looked for then.
    `train_rows` have `url` and `content`, and may have `cluster` and `label` (JSON of a label): one pass is made.
    """
    known: dict[str, dict[str | None, list[str]]] = {"url": {}, "content": {}, "cluster": {}}
    for document in documents:
        known["url"].setdefault(document.url, []).append(document.url)
        known["content"].setdefault(content_hash(document.content), []).append(document.url)
        if document.cluster is not None:
            known["cluster"].setdefault(document.cluster, []).append(document.url)
    texts = [*_gold_texts(documents)]
    found: dict[str, dict[str, str]] = {kind: {} for kind in LEAKS}
    for row in train_rows:
        keys = {"url": row["url"], "content": content_hash(row["content"]), "cluster": row.get("cluster")}
        for kind, key in keys.items():
            for url in known[kind].get(key, ()):
                found[kind].setdefault(url, row["url"])
        if texts:
            training_text = folded(f"{row['content']}\n{row.get('label') or ''}")
            for kind, url, text in texts:
                if text in training_text:
                    found[kind].setdefault(url, row["url"])
    return {
        kind: [{"url": url, "train_url": train_url} for url, train_url in sorted(of_kind_found.items())]
        for kind, of_kind_found in found.items()
        if kind != "cluster" or known["cluster"]
    }


def _gold_texts(documents: Sequence[TestDocument]) -> Iterable[tuple[str, str, str]]:
    """(kind, URL, folded text) of what must not stand in a training text."""
    for document, gold in ((each, gold) for each in documents for gold in each.golds):
        summary = folded(gold.summary or "")
        if len(summary) >= _FEWEST_CHARACTERS:
            yield "gold_summary", document.url, summary
        keywords = gold.keywords or ()
        if len(keywords) >= _FEWEST_KEYWORDS:
            yield "gold_keywords", document.url, folded(", ".join(keywords))
            yield "gold_keywords", document.url, folded('","'.join(keywords))
