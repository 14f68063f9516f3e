"""Language by script and classifier, and the quality rules."""

from typing import Any

import pytest

from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.corpus.language import hangul_share, identify_language, words_of
from smartdevdigest_ops.corpus.quality import find_fault
from smartdevdigest_ops.settings import CorpusSettings

ENGLISH = "A pod is the smallest unit that the scheduler places on a node, and its containers share one network. " * 4
KOREAN = "파드는 스케줄러가 노드에 배치하는 가장 작은 단위이며, 그 안의 컨테이너는 하나의 네트워크를 함께 쓴다. " * 4
CODE = "\n```python\n" + "import kubernetes as client\nclient.load_config()\n" * 40 + "```\n"


def identify(text: str) -> Any:
    return identify_language(words_of(text))


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "en"),
        (KOREAN, "ko"),
        (KOREAN + CODE, "ko"),
        (KOREAN + ENGLISH, "ko"),
        ("# 개요\n\n" + ENGLISH, "en"),
        (KOREAN + "[문서](https://a.example/very/long/english/path/to/some/page/of/the/documentation)", "ko"),
    ],
)
def test_the_text_decides_not_the_code_links_or_a_heading(text: str, language: str) -> None:
    assert identify(text).language == language


@pytest.mark.parametrize(
    "text",
    [
        "Un pod est la plus petite unité que l'ordonnanceur place sur un nœud, et ses conteneurs partagent le réseau. ",
        "ポッドはスケジューラーがノードに配置する最小の単位であり、その中のコンテナは一つのネットワークを共有します。",
        "Под — это наименьшая единица, которую планировщик размещает на узле, и её контейнеры делят одну сеть. ",
    ],
)
def test_other_languages_are_named_as_the_reason(text: str) -> None:
    found = identify(text * 4)
    assert found.language is None
    assert "identified as" in found.reason


def test_a_page_of_nothing_but_code_has_no_language() -> None:
    assert identify(CODE).reason == "no letters outside code and links"


def test_hangul_share_counts_letters_only() -> None:
    assert hangul_share("가나 ab 12 !") == 0.5
    assert hangul_share("12") == 0.0


def test_all_sample_documents_are_identified_as_declared_and_pass(sample_documents: list[CrawlRecord]) -> None:
    for document in sample_documents:
        assert identify(document.content).language == document.language, document.url
        assert find_fault(document.content, CorpusSettings()) is None, document.url


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("짧다", "too_short"),
        ("| 1 | 2 | 3 |\n" * 40, "few_letters"),
        ("\n".join(["Please accept the cookies of this site."] * 9 + [ENGLISH[:100], "x"]), "repeated_lines"),
        ("\n".join(f"- [Chapter {n} of the book](https://a.example/{n})" for n in range(30)), "mostly_links"),
        (ENGLISH, None),
        ("\n\n".join(f"### Parameters\n\n{n}. {ENGLISH[:200]} {n}" for n in range(12)), None),
        (ENGLISH + CODE, None),
    ],
)
def test_the_first_broken_rule_is_the_reason(text: str, reason: str | None) -> None:
    fault = find_fault(text, CorpusSettings())
    assert (fault and fault.reason) == reason
