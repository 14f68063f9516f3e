"""Who votes and how much, by hand."""

import pytest
from tokenizer_samples import rows_of, write_base

from smartdevdigest_ops.tokenizer.base import open_base
from smartdevdigest_ops.tokenizer.pre_tokens import count_pre_tokens
from smartdevdigest_ops.tokenizer.votes import balanced_weights, collect_votes


@pytest.fixture
def base(tmp_path):
    return open_base(write_base(tmp_path / "base", [("t", "h"), ("th", "e")]))


def votes_of(base, documents, **options):
    """Word -> votes, and the rest of what was found."""
    votes = collect_votes(base, count_pre_tokens(base, documents), **options)
    words = {"".join(base.symbols[i] for i in ids): vote for ids, vote in votes.segments.items()}
    return words, votes


def test_every_occurrence_is_a_vote_unless_told_otherwise(base):
    words, votes = votes_of(base, rows_of(["ab cd cd", "ab"]))
    # A title that is not there leaves a line feed; of one token, it has nothing to join and is counted as a token.
    assert words == {"ab": 2, "Ġcd": 2}
    assert votes.num_tokens == 2 * 2 + 2 * 3 + 2
    assert votes.weights == {"ko": 1.0}


def test_a_word_of_fewer_documents_has_no_vote_however_often_it_stands_there(base):
    words, votes = votes_of(base, rows_of(["ab cd cd cd cd", "ab", "ab"]), min_documents=2)
    assert words == {"ab": 3}
    assert votes.num_tokens == 3 * 2 + 3


def test_weights_are_scaled_so_that_no_occurrence_has_more_than_one_vote(base):
    documents = [*rows_of(["ab"], "ko"), *rows_of(["ab", "cd"], "en")]
    words, votes = votes_of(base, documents, weights={"ko": 4.0, "code": 2.0})
    assert votes.weights == {"ko": 1.0, "en": 0.25}
    assert words == {"ab": 1.25, "cd": 0.25}


def test_balance_evens_out_the_shares_of_the_kinds():
    sizes = {"ko": 900, "en": 100, "code": 0}
    assert balanced_weights(sizes, 0.0) == {"ko": 1.0, "en": 1.0, "code": 1.0}
    assert balanced_weights(sizes, 0.5) == {"ko": pytest.approx(1 / 3), "en": 1.0, "code": 1.0}
    assert balanced_weights(sizes, 1.0) == {"ko": pytest.approx(1 / 9), "en": 1.0, "code": 1.0}
    # Shares 0.9 and 0.1 become 0.75 and 0.25, as sqrt(0.9) and sqrt(0.1) do, normalised.
    ko, en = (size * balanced_weights(sizes, 0.5)[kind] for kind, size in (("ko", 900), ("en", 100)))
    assert ko / (ko + en) == pytest.approx(0.75)


def test_votes_are_exact_in_any_order_of_the_documents(base):
    documents = [*rows_of(["ab cd ef"] * 7, "ko"), *rows_of(["ab cd"] * 3, "en"), *rows_of(["```\nab\n```"] * 2, "en")]
    weights = {"ko": 0.1, "en": 0.3, "code": 0.7}
    assert votes_of(base, documents, weights=weights) == votes_of(base, documents[::-1], weights=weights)


def test_parts_of_words_vote_together(base):
    words, _ = votes_of(base, rows_of(["abcd abxy"]), cut=lambda word, ids: [ids[:-2], ids[-2:]])
    assert words == {"ab": 1, "cd": 1, "Ġab": 1, "xy": 1}
