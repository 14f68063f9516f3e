from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lineage_samples import Chain, page, page_id

from smartdevdigest_ops.lineage.document_index import DocumentIndex, as_ids, document_files, document_id


def test_ids_are_those_of_the_file_sorted_and_stay_when_the_file_is_gone(chain: Chain) -> None:
    snapshot = chain.snapshot(train=["b", "a", "c"])
    index = DocumentIndex(chain.store)
    index.add(snapshot)
    sha256 = dict(document_files(snapshot))["train.parquet"]
    expected = sorted(int(page_id(name), 16) for name in "abc")
    assert index.entry(sha256).tolist() == expected
    (snapshot.path / "train.parquet").unlink()
    assert index.ids(snapshot, "train.parquet", sha256).tolist() == expected


def test_an_id_is_that_of_every_spelling_of_an_address() -> None:
    assert document_id(page("a") + "/?utm_source=mail") == page_id("a")
    assert as_ids([page_id("a")]).tolist() == [int(page_id("a"), 16)]


def test_only_kept_documents_of_a_corpus_count(chain: Chain) -> None:
    def write(out: Path) -> None:
        (out / "decisions").mkdir()
        table = pa.table({"url": [page("a"), page("b")], "kept": [True, False]})
        pq.write_table(table, out / "decisions" / "0.parquet")

    corpus = chain.publish("cleaned_corpus", write)
    [(name, sha256)] = document_files(corpus)
    assert DocumentIndex(chain.store).ids(corpus, name, sha256).tolist() == [int(page_id("a"), 16)]


@pytest.mark.parametrize("columns", [{"other": ["x"]}, {"document_id": ["no hash"]}, {"document_id": [None]}])
def test_a_file_that_names_no_documents_is_refused_when_asked_for_and_fails_no_making(chain: Chain, columns) -> None:
    artifact = chain.publish("corpus_snapshot", lambda out: pq.write_table(pa.table(columns), out / "train.parquet"))
    index = DocumentIndex(chain.store)
    index.add(artifact)
    [(name, sha256)] = document_files(artifact)
    with pytest.raises(OSError, match=r"train\.parquet"):
        index.ids(artifact, name, sha256)


def test_a_file_that_was_changed_since_is_not_indexed(chain: Chain) -> None:
    snapshot = chain.snapshot(train=["a"])
    (snapshot.path / "train.parquet").write_bytes((snapshot.path / "test.parquet").read_bytes())
    with pytest.raises(OSError, match="differs from what was published"):
        DocumentIndex(chain.store).ids(snapshot, "train.parquet", dict(document_files(snapshot))["train.parquet"])
