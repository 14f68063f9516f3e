"""Pre-tokens of a corpus by kind of text and by document."""

import weakref
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizer_samples import rows_of, write_base

from smartdevdigest_ops.corpus.read import CorpusError
from smartdevdigest_ops.tokenizer.base import open_base
from smartdevdigest_ops.tokenizer.pre_tokens import count_pre_tokens, stream_split


@pytest.fixture
def base(tmp_path):
    return open_base(write_base(tmp_path / "base", [("t", "h"), ("th", "e")]))


def test_prose_is_counted_by_language_and_code_apart(base):
    code = "```\nx x\n```\n"
    documents = [*rows_of([f"a 1\n\n{code}"], "ko"), *rows_of(["a 22"], "en")]
    counts = count_pre_tokens(base, documents)
    assert counts.by_kind["ko"] == Counter({"Ċ": 1, "a": 1, "Ġ": 1, "1": 1, "ĊĊ": 1})
    assert counts.by_kind["en"] == Counter({"2": 2, "Ċ": 1, "a": 1, "Ġ": 1})
    assert counts.by_kind["code"]["x"] == counts.by_kind["code"]["Ġx"] == 1
    assert set(counts.by_kind) == {"ko", "en", "code"}


def test_a_document_counts_once_for_a_word_however_often_it_has_it(base):
    documents = rows_of(["the the the `the`\n\n```\nthe\n```\n", " then the"])
    assert count_pre_tokens(base, documents).num_documents["Ġthe"] == 2
    assert count_pre_tokens(base, documents).num_documents["Ġthen"] == 1


def test_the_title_is_prose(base):
    document = {"title": "the", "content": "x", "language": "en"}
    assert count_pre_tokens(base, [document]).by_kind["en"]["the"] == 1


def test_a_document_is_forgotten_before_the_one_after_the_next_is_read(base):
    class Row(dict):
        """A dict that can be watched."""

    made = []

    def documents():
        for number in range(6):
            assert sum(row() is not None for row in made) <= 1
            row = Row(title=None, content=f"the {number}", language="en")
            made.append(weakref.ref(row))
            yield row
            del row

    assert count_pre_tokens(base, documents()).num_documents["the"] == 6


def test_a_split_is_streamed_in_order_over_its_row_groups(tmp_path):
    rows = [
        {"title": None, "content": f"text {n}", "language": "en", "url": f"https://a.example/{n}"} for n in range(9)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet", row_group_size=2)
    assert [row["content"] for row in stream_split(tmp_path, "train")] == [row["content"] for row in rows]


def test_a_missing_and_a_damaged_split_are_named(tmp_path):
    with pytest.raises(CorpusError, match=r"train\.parquet does not exist"):
        list(stream_split(tmp_path, "train"))
    (tmp_path / "train.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(CorpusError, match="no readable Parquet file"):
        list(stream_split(tmp_path, "train"))
