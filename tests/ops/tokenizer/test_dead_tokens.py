"""Which new tokens are produced, which are steps, which are dead."""

import pytest
from tokenizer_samples import write_base

from smartdevdigest_ops.tokenizer.base import open_base
from smartdevdigest_ops.tokenizer.dead_tokens import token_use, without_dead_tokens
from smartdevdigest_ops.tokenizer.merges import MergeTable
from smartdevdigest_ops.tokenizer.write import extended_tree


@pytest.fixture
def table(tmp_path) -> MergeTable:
    """Merges l+o, lo+w, x+y, then xy+z."""
    made = MergeTable(open_base(write_base(tmp_path / "base", [("t", "h")])))
    ids = made.base.vocabulary
    lo = made.add(ids["l"], ids["o"])
    xy = made.add(ids["x"], ids["y"])
    made.add(lo, ids["w"])
    made.add(xy, ids["z"])
    return made


def use_of(table: MergeTable, words: list[str], required: tuple[str, ...] = ()):
    return token_use(extended_tree(table), table.symbols.values(), words, required)


def test_a_step_to_a_produced_token_is_not_dead(table):
    use = use_of(table, ["low", "xy"])
    assert (use.produced, use.steps, use.dead) == ({"low", "xy"}, {"lo"}, {"xyz"})


def test_what_was_asked_for_and_its_steps_need_not_be_produced(table):
    use = use_of(table, ["low"], required=("xyz",))
    assert (use.produced, use.required, use.steps, use.dead) == ({"low"}, {"xyz", "xy"}, {"lo"}, set())


def test_without_its_dead_tokens_a_table_encodes_the_corpus_as_before(table):
    words = ["low", "slow", "lot"]
    kept = without_dead_tokens(table, words)
    assert list(kept.symbols.values()) == ["lo", "low"]
    assert list(kept.symbols) == [kept.base.first_new_id, kept.base.first_new_id + 1]
    for word in words:
        assert [kept.symbol(i) for i in kept.segment(word)] == [table.symbol(i) for i in table.segment(word)]
    assert use_of(kept, words).dead == set()


def test_merges_written_as_text_are_read_too(tmp_path):
    base = open_base(write_base(tmp_path / "base", [("t", "h")], merges_as_text=True))
    made = MergeTable(base)
    made.add(made.add(base.vocabulary["l"], base.vocabulary["o"]), base.vocabulary["w"])
    assert use_of(made, ["low"]).steps == {"lo"}
