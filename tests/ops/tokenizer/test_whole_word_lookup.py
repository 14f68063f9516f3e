"""A base that looks whole pre-tokens up before it merges (`ignore_merges`): new tokens need nothing else there."""

import itertools
import json
import random
from pathlib import Path

import pytest
from tokenizer_samples import segments_of, write_base

from smartdevdigest_ops.tokenizer.base import Bpe, TokenizerError, open_base
from smartdevdigest_ops.tokenizer.learn import learn_merges
from smartdevdigest_ops.tokenizer.merges import MergeTable, add_required_terms
from smartdevdigest_ops.tokenizer.write import extended_tree


def draw_word(draw: random.Random, letters: str, longest: int) -> str:
    return "".join(draw.choices(letters, k=draw.randint(2, longest)))


def draw_base(draw: random.Random, letters: str, directory: Path) -> Bpe:
    """Merges in any order, and words that no merge leads to, as in vocabularies that were converted."""
    tokens, merges = list(letters), []
    for _ in range(12):
        left, right = draw.choice(tokens), draw.choice(tokens)
        if left + right not in tokens and len(left + right) <= 5:
            merges.append((left, right))
            tokens.append(left + right)
    write_base(directory, merges, ignore_merges=True)
    tree = json.loads((directory / "tokenizer.json").read_text())
    draw.shuffle(tree["model"]["merges"])
    for _ in range(3):
        tree["model"]["vocab"].setdefault(draw_word(draw, letters, 4), len(tree["model"]["vocab"]))
    (directory / "tokenizer.json").write_text(json.dumps(tree))
    return open_base(directory)


def extend(draw: random.Random, base: Bpe, letters: str) -> MergeTable:
    words = {draw_word(draw, letters, 9): draw.randint(1, 9) for _ in range(30)}
    table = learn_merges(
        base, segments_of(base, words), num_new_tokens=draw.randint(1, 25), min_votes=2, max_token_characters=12
    )
    for _ in range(3):
        try:
            add_required_terms(table, (draw_word(draw, letters, 6),))
        except TokenizerError:  # in the base's vocabulary, and beyond the reach of its merges
            continue
    return table


@pytest.mark.parametrize("seed", range(25))
def test_a_word_that_is_a_new_token_is_looked_up_as_what_the_merges_give_and_the_base_splits(seed, tmp_path):
    from tokenizers import Tokenizer

    draw = random.Random(seed)
    letters = "abcde"[: draw.randint(2, 5)]
    base = draw_base(draw, letters, tmp_path)
    table = extend(draw, base, letters)
    model = Tokenizer.from_str(json.dumps(extended_tree(table))).model
    runs = {
        symbol[start:end]
        for symbol in table.symbols.values()
        for start, end in itertools.combinations(range(len(symbol) + 1), 2)
    }
    assert set(table.symbols.values()) <= runs
    for word in sorted(runs):
        ids = [token.id for token in model.tokenize(word)]
        assert ids == table.segment(word)
        assert [base_id for token_id in ids for base_id in table.base_ids(token_id)] == base.segment(word)
