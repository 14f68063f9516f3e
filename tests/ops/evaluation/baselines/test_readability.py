import math
from typing import Any

import pytest

from smartdevdigest_ops.evaluation.baselines.readability import FEWEST_DOCUMENTS, Readability, readability_counts


def test_counts_by_hand() -> None:
    content = "Pods run. Schedulers place them (everywhere).\n\n```sh\nls -la\n```\n"
    words, letters, long_words, length, code = readability_counts(content, "en")
    assert words == 3  # six words, two sentences
    assert letters == pytest.approx((4 + 3 + 10 + 5 + 4 + 10) / 6)
    assert long_words == pytest.approx(2 / 6)
    assert length == pytest.approx(math.log(len(content)))
    assert code == pytest.approx(1 - 45 / len(content))


def _rows(count: int, language: str = "en") -> list[tuple[dict[str, Any], float]]:
    # Difficulty grows with the length of the sentences.
    return [
        ({"language": language, "content": " ".join(["Word " * (2 + n) + "end."] * 4)}, 1 + 4 * n / (count - 1))
        for n in range(count)
    ]


def test_longer_sentences_are_harder_where_the_train_labels_say_so() -> None:
    fitted = Readability(_rows(20))
    easy, hard = (fitted.score(" ".join(["Word " * length + "end."] * 4), "en") for length in (3, 19))
    assert easy is not None
    assert hard is not None
    assert easy < 2
    assert hard > 4


def test_a_score_stays_on_the_scale() -> None:
    assert Readability(_rows(20)).score("word " * 900 + "end.", "en") == 5.0


def test_a_language_with_few_labels_gets_no_score() -> None:
    fitted = Readability([*_rows(20), *_rows(FEWEST_DOCUMENTS - 1, "ko")])
    assert fitted.score("word", "ko") is None
