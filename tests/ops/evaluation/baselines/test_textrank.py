import math

import pytest

from smartdevdigest_ops.evaluation.baselines.textrank import page_rank, sentence_similarity, textrank_summary


def test_page_rank_equals_networkx_on_a_weighted_graph() -> None:
    import networkx
    import numpy as np

    rng = np.random.default_rng(0)
    weights = np.triu(rng.random((8, 8)) * (rng.random((8, 8)) < 0.5), 1)
    weights += weights.T
    weights[5, :] = weights[:, 5] = 0  # a sentence that shares nothing
    expected = networkx.pagerank(networkx.from_numpy_array(weights), alpha=0.85, tol=1e-12, max_iter=500)
    assert page_rank(weights) == pytest.approx([expected[node] for node in range(8)], abs=1e-9)


def test_similarity_is_shared_words_over_the_logarithms_of_both_lengths() -> None:
    weights = sentence_similarity(["Pods run containers.", "Nodes run many pods.", "Tea cools."], "en")
    assert weights[0, 1] == pytest.approx(2 / (math.log(3) + math.log(4)))
    assert weights[0, 2] == weights[0, 0] == 0.0


def test_one_word_sentences_have_no_similarity_and_divide_nothing_by_zero() -> None:
    assert sentence_similarity(["Pods.", "Pods."], "en")[0, 1] == 0.0


def test_the_central_sentences_are_taken_in_the_order_of_the_document() -> None:
    text = (
        "Tea cools on the table. The scheduler places pods on nodes. A cat sleeps all day. "
        "Pods on nodes need the scheduler. Nodes tell the scheduler of their pods. It rained on Monday."
    )
    assert textrank_summary(text, "en", 3) == (
        "The scheduler places pods on nodes. Pods on nodes need the scheduler. Nodes tell the scheduler of their pods."
    )


def test_korean_sentences_vote_by_their_content_morphemes() -> None:
    text = (
        "어제는 비가 왔다. 스케줄러가 컨테이너를 서버에 배치한다. 고양이가 잔다. "
        "서버는 컨테이너 상태를 스케줄러에 알린다. 컨테이너가 죽으면 스케줄러가 다른 서버를 고른다."
    )
    summary = textrank_summary(text, "ko", 3)
    assert summary.count("스케줄러") == 3
    assert "고양이" not in summary


def test_a_short_document_is_its_own_summary() -> None:
    assert textrank_summary("One sentence. Another one.", "en", 3) == "One sentence. Another one."
