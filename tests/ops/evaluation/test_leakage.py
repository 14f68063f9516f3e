import json
from typing import Any

import pytest

from smartdevdigest_ops.evaluation.gold import Gold, TestDocument
from smartdevdigest_ops.evaluation.leakage import LEAKS, audit_leakage

SUMMARY = "The scheduler of this cluster places pods by their memory."
DOCUMENT = TestDocument(
    "https://a.example/tested", "en", None, "The text.", Gold(SUMMARY, ("pods", "memory", "nodes")), cluster="c1"
)
TRAINED: dict[str, Any] = {"url": "https://a.example/trained", "content": "Another text.", "cluster": "c2"}


def test_nothing_leaks_from_other_documents() -> None:
    assert audit_leakage([DOCUMENT], [TRAINED]) == {kind: [] for kind in LEAKS}


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("url", {"url": DOCUMENT.url}),
        ("content", {"content": DOCUMENT.content}),
        ("cluster", {"cluster": "c1"}),
        ("gold_summary", {"content": f"As we said:\n{SUMMARY.upper().replace(' ', '  ')} So it is."}),
        ("gold_summary", {"label": json.dumps({"summary": SUMMARY})}),
        ("gold_keywords", {"content": "Tags: Pods, memory, nodes"}),
        ("gold_keywords", {"label": '{"keywords":["pods","memory","nodes"]}'}),
    ],
)
def test_each_kind_of_leak_is_listed_with_both_addresses(kind: str, changed: dict[str, str]) -> None:
    row = TRAINED | changed
    found = audit_leakage([DOCUMENT], [row])
    assert found.pop(kind) == [{"url": DOCUMENT.url, "train_url": row["url"]}]
    assert not any(found.values())


def test_every_document_of_a_leaked_cluster_is_listed() -> None:
    translation = TestDocument("https://a.example/ko/tested", "ko", None, "본문", Gold(), cluster="c1")
    found = audit_leakage([DOCUMENT, translation], [TRAINED | {"cluster": "c1"}])
    assert [leak["url"] for leak in found["cluster"]] == [translation.url, DOCUMENT.url]


def test_near_duplicates_of_documents_without_a_cluster_are_not_said_to_be_none() -> None:
    alone = TestDocument("https://a.example/x", "en", None, "x", Gold())
    assert set(audit_leakage([alone], [TRAINED])) == set(LEAKS) - {"cluster"}
    assert audit_leakage([alone, DOCUMENT], [TRAINED])["cluster"] == []


def test_a_phrase_that_anybody_writes_is_no_leak() -> None:
    short = TestDocument("https://a.example/x", "en", None, "x", Gold("Pods run.", ("pods", "nodes")))
    found = audit_leakage([short], [TRAINED | {"content": "Pods run. pods, nodes"}])
    assert not any(found.values())
