"""The pairs that the judge is judged by: which one is better must be certain."""

import re
from dataclasses import replace

import pytest

from smartdevdigest_ops.evaluation.gold import Gold, TestDocument
from smartdevdigest_ops.evaluation.judge.known_answers import alter_numbers, build_pairs, truncate
from smartdevdigest_ops.evaluation.metrics.faithfulness import read_source
from smartdevdigest_ops.settings import JudgeSettings

SETTINGS = JudgeSettings()
SOURCE = read_source(None, "Version 3.10 took 1,200 ms on 8 cores, IPv6 too, from v1.2.3 to 2024-05-01.", "en")


def test_numbers_of_the_document_are_altered_to_ones_that_it_does_not_hold_and_names_stay() -> None:
    altered = alter_numbers("In 3.10 it took 1,200 ms on 8 cores (8!) with IPv6, v1.2.3, 2024-05-01.", SOURCE, "seed")
    assert altered is not None
    found = re.fullmatch(r"In (\S+) it took (\S+) ms on (\d+) cores \((\d+)!\) with IPv6, v1.2.3, 2024-05-01.", altered)
    assert found is not None
    assert not {found[1], found[2].replace(",", ""), found[3]} & SOURCE.numbers
    assert found[3] == found[4]  # the same number stays one
    assert re.fullmatch(r"\d\.\d\d", found[1])
    assert re.fullmatch(r"\d,\d{3}", found[2])


def test_a_summary_whose_numbers_are_not_in_the_document_has_no_known_answer() -> None:
    assert alter_numbers("It took 77 ms with IPv6.", SOURCE, "seed") is None
    assert alter_numbers("It took long.", SOURCE, "seed") is None


def test_korean_numbers_with_particles_are_altered() -> None:
    source = read_source(None, "파드는 3개의 컨테이너를 실행한다.", "ko")
    altered = alter_numbers("파드가 컨테이너 3개를 실행한다.", source, "seed")
    assert altered is not None
    assert "3개" not in altered
    assert re.fullmatch(r"파드가 컨테이너 \d+개를 실행한다.", altered)


def test_a_document_that_holds_every_digit_gets_a_number_of_more() -> None:
    source = read_source(None, " ".join(map(str, range(10))), "en")
    altered = alter_numbers("It has 5 parts.", source, "seed")
    assert altered is not None
    assert int(altered.split()[2]) >= 10


def test_a_truncation_counts_only_where_it_loses_what_the_document_says_most() -> None:
    source = read_source(None, "Containers share the kernel. Containers start fast. The kernel isolates them.", "en")
    whole = "This is about containers as they are and what the kernel does"
    assert truncate(whole, source) == "This is about containers as they"
    assert truncate("Containers and the kernel are what it is about, says he who wrote it here", source) is None
    assert truncate("Containers share kernels", source) is None


@pytest.fixture
def documents(gold_documents: list[TestDocument]) -> list[TestDocument]:
    return gold_documents[:6] + gold_documents[12:18]


def test_gold_is_paired_with_gold_of_the_language_from_another_cluster_without_a_reference(
    documents: list[TestDocument],
) -> None:
    clustered = [
        replace(document, cluster="one" if number < 5 else "two") if document.language == "en" else document
        for number, document in enumerate(documents)
    ]
    pairs = [pair for pair in build_pairs(clustered, [None] * 12, SETTINGS, 17) if pair.kind == "foreign"]
    assert len(pairs) == 12
    gold = {document.gold.summary: document for document in clustered}
    for pair in pairs:
        assert pair.better == pair.document.gold.summary
        assert gold[pair.worse].language == pair.document.language
        assert gold[pair.worse].sampling_unit != pair.document.sampling_unit
        assert pair.reference is None
    assert {pair.worse for pair in pairs if pair.document.cluster == "one"} == {clustered[5].gold.summary}


def test_a_document_that_is_alone_has_no_foreign_gold(documents: list[TestDocument]) -> None:
    assert not [pair for pair in build_pairs(documents[:1], [None], SETTINGS, 17) if pair.kind == "foreign"]


def test_the_seed_decides_the_pairs_and_what_is_switched_off_is_not_asked(documents: list[TestDocument]) -> None:
    digests = [document.gold.summary for document in documents]
    pairs = build_pairs(documents, digests, SETTINGS, 17)
    assert pairs == build_pairs(documents, digests, SETTINGS, 17)
    assert pairs != build_pairs(documents, digests, SETTINGS, 18)
    assert {pair.kind for pair in pairs} == {"foreign", "altered_numbers", "truncated"}
    of_truncations = [pair for pair in pairs if pair.kind == "truncated"]
    assert all(pair.reference == pair.document.gold.summary for pair in of_truncations)
    assert all(pair.better.startswith(pair.worse.split()[0]) for pair in of_truncations)
    only = JudgeSettings(dimensions=("coverage", "clarity"), pairwise=False)
    asked = {(pair.kind, pair.asked) for pair in build_pairs(documents, digests, only, 17)}
    assert asked == {("foreign", ("coverage",)), ("truncated", ("coverage",))}


def test_both_orders_of_a_pair_are_asked() -> None:
    document = TestDocument("https://a.example/1", "en", None, "It took 3 ms.", Gold("It took 3 ms."))
    (pair,) = build_pairs([document], [None], SETTINGS, 17)
    assert pair.kind == "altered_numbers"
    forward, backward = pair.preferences()
    assert (forward.first, forward.second) == (backward.second, backward.first) == (pair.better, pair.worse)
    assert len(pair.judgements()) == 4
