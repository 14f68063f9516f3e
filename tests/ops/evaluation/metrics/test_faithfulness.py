import pytest

from smartdevdigest_ops.evaluation.metrics.faithfulness import (
    Source,
    absent_items,
    copied_runs,
    covered_terms,
    find_facts,
    read_source,
    unsupported_facts,
)


def _source(content: str, language: str = "en") -> Source:
    return read_source(None, content, language)


@pytest.mark.parametrize(
    ("summary", "numbers", "names", "code"),
    [
        ("Version 1.33 uses 1,000 pods.", {"1.33", "1000"}, set(), set()),
        ("The docs name Kubernetes. Then Docker runs.", set(), {"kubernetes", "docker"} - {"then"}, set()),
        ("Call kube_proxy or getPod() with --dry-run.", set(), set(), {"kube_proxy", "getpod()", "--dry-run"}),
        ("Set os.environ, e.g. in CI.", set(), {"ci"}, {"os.environ"}),
    ],
)
def test_facts_of_english_by_hand(summary: str, numbers: set[str], names: set[str], code: set[str]) -> None:
    facts = find_facts(summary, "en")
    assert (facts.numbers, facts.names, facts.code) == (numbers, names, code)


def test_the_first_word_of_an_english_sentence_is_no_name() -> None:
    assert find_facts("Containers start. They run.", "en").names == set()


def test_facts_of_korean_are_its_latin_words_and_proper_nouns() -> None:
    facts = find_facts("Docker를 서울에서 3대의 서버에 배포한다.", "ko")
    assert facts.names == {"docker", "서울"}
    assert facts.numbers == {"3"}


def test_what_the_document_does_not_hold_is_unsupported() -> None:
    source = _source("Kubernetes 1.33 runs 1000 pods with kube_proxy.")
    found = unsupported_facts("In Kubernetes 1.34, Docker runs 1,000 pods with kube_proxy and etcd_sync.", source, "en")
    assert found == {"numbers": (1, 2), "names": (1, 2), "code": (1, 2)}


def test_a_name_inside_another_word_does_not_support_it() -> None:
    assert unsupported_facts("They use Go.", _source("Google made it."), "en")["names"] == (1, 1)


def test_a_name_that_is_part_of_a_path_in_the_document_is_supported() -> None:
    assert unsupported_facts("They use Redis.", _source("see github.com/redis/redis"), "en")["names"] == (0, 1)


def test_a_korean_particle_behind_a_name_does_not_hide_it() -> None:
    assert unsupported_facts("Docker는 빠르다.", _source("Docker를 쓴다.", "ko"), "ko")["names"] == (0, 1)


def test_terms_that_the_document_says_most_are_counted_in_the_summary() -> None:
    source = _source("Pods share a node. Pods restart. A node fails, pods move. Volumes stay.")
    assert source.terms[:2] == ("pods", "node")
    assert covered_terms("Pods restart on machines.", source) == (2, len(source.terms))  # pods, restart


def test_copied_runs_are_runs_of_three_words_of_the_document() -> None:
    source = _source("The scheduler places every pod on a node.")
    assert copied_runs("The scheduler places a pod.", source, "en") == (1, 3)
    assert copied_runs("Two words", source, "en") == (0, 0)


def test_absent_items_fold_case_and_width() -> None:
    assert absent_items(["docker", "ＬＩＮＵＸ", "etcd"], _source("Docker on Linux")) == (1, 3)
