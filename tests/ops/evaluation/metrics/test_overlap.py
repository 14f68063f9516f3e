import itertools

import pytest

from smartdevdigest_ops.contracts import Label
from smartdevdigest_ops.evaluation.metrics.overlap import (
    KOREAN_CONTRADICTION,
    KOREAN_STATEMENT,
    OVERLAP_METRICS,
    bleu,
    chrf_plus_plus,
    korean_self_check,
    list_scores,
    rouge,
    summary_scores,
)
from smartdevdigest_ops.evaluation.text.sentences import split_sentences

GOLD = "A sidecar proxy is removed from every pod, which saves memory on busy nodes."
ANSWER = "The mesh removes the sidecar proxies from pods and saves a lot of memory."


def test_english_rouge_equals_rouge_score_with_its_defaults_and_stemming(sample_labels: dict[str, Label]) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
    summaries = [label.summary for label in sample_labels.values() if label.language == "en"]
    for gold, answer in [(GOLD, ANSWER), *itertools.pairwise(summaries)]:
        of_lines = ["\n".join(split_sentences(text, "en")) for text in (gold, answer)]
        expected = {name: score.fmeasure for name, score in scorer.score(*of_lines).items()}
        assert rouge(gold, answer, "en") == pytest.approx(expected, abs=1e-9)


def test_identical_korean_summaries_score_one(sample_labels: dict[str, Label]) -> None:
    for label in [label for label in sample_labels.values() if label.language == "ko"][:10]:
        assert summary_scores(label.summary, label.summary, "ko") == dict.fromkeys(OVERLAP_METRICS, 1.0)


def test_contradictory_korean_that_shares_two_latin_words_scores_near_zero() -> None:
    identical, contradictory = korean_self_check()
    assert identical == 1.0
    assert contradictory < 0.2


def test_rouge_scores_own_tokenizer_would_call_the_contradiction_identical() -> None:
    # The reason for a tokenizer of our own: all that it keeps of either text is "docker linux".
    assert rouge(KOREAN_STATEMENT, KOREAN_CONTRADICTION, "en")["rougeL"] == 1.0


def test_korean_particles_and_endings_do_not_count_as_overlap() -> None:
    # "Cheolsu ate an apple", "Yeonghui bought a newspaper": shared are 는, 를/을, 었 and 다 only.
    assert rouge("철수는 사과를 먹었다.", "영희는 신문을 샀다.", "ko")["rouge1"] == 0.0


def test_korean_rouge_follows_from_content_morphemes_by_hand() -> None:
    # Content: 컨테이너 서버 빠르 | 컨테이너 서버 느리 -> 2 of 3 shared, one of two bigrams.
    scores = rouge("컨테이너 서버가 빠르다.", "컨테이너 서버는 느리다.", "ko")
    assert scores == pytest.approx({"rouge1": 2 / 3, "rouge2": 1 / 2, "rougeL": 2 / 3, "rougeLsum": 2 / 3})


def test_rouge_lsum_finds_sentences_in_another_order_and_rouge_l_does_not() -> None:
    scores = rouge("Pods run containers. Nodes run pods.", "Nodes run pods. Pods run containers.", "en")
    assert scores["rougeLsum"] == 1.0
    assert scores["rougeL"] == 0.5  # "pods run containers" is the longest common subsequence of six words


def test_english_bleu_and_chrf_plus_plus_equal_sacrebleu() -> None:
    import sacrebleu

    assert bleu(GOLD, ANSWER, "en") == pytest.approx(sacrebleu.sentence_bleu(ANSWER, [GOLD]).score / 100, abs=1e-9)
    expected = sacrebleu.sentence_chrf(ANSWER, [GOLD], word_order=2).score / 100
    assert chrf_plus_plus(GOLD, ANSWER) == pytest.approx(expected, abs=1e-9)


def test_korean_bleu_sees_shared_morphemes_under_different_particles() -> None:
    import sacrebleu

    gold, answer = "컨테이너를 배포하는 방법을 설명한다.", "컨테이너의 배포 방법을 설명한다."
    assert bleu(gold, answer, "ko") > sacrebleu.sentence_bleu(answer, [gold]).score / 100


def test_no_answer_scores_zero_in_every_overlap_metric() -> None:
    assert summary_scores(GOLD, None, "en") == dict.fromkeys(OVERLAP_METRICS, 0.0)


@pytest.mark.parametrize(
    ("gold", "answer", "exact", "stemmed"),
    [
        (["Docker", "Linux"], ["docker", "ＬＩＮＵＸ"], 1.0, 1.0),  # case and width fold
        (["proxies", "pod"], ["proxy", "node"], 0.0, 0.5),
        (["a1", "b2", "c3"], ["a1"], 0.5, 0.5),  # 2 * 1 / (3 + 1)
        ([], [], 1.0, 1.0),
        (["a1"], [], 0.0, 0.0),
        (["C++"], ["c++", "c++ "], 1.0, 1.0),
    ],
)
def test_keyword_f1_by_hand(gold: list[str], answer: list[str], exact: float, stemmed: float) -> None:
    scores = list_scores("keyword", gold, answer, "en")
    assert scores == pytest.approx({"keyword_f1": exact, "keyword_f1_stemmed": stemmed})


def test_korean_keywords_agree_stemmed_when_only_a_particle_differs() -> None:
    scores = list_scores("term", ["컨테이너"], ["컨테이너를"], "ko")
    assert scores == {"term_f1": 0.0, "term_f1_stemmed": 1.0}
