"""The stages cleaned_corpus and corpus_snapshot on small drops, and their checks passing and failing."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from smartdevdigest_ops.artifacts import Artifact, ArtifactStore, Making, content_hash
from smartdevdigest_ops.corpus.clean import CleanCounts, check_script, check_totals, check_urls
from smartdevdigest_ops.corpus.prepare import prepare_drop
from smartdevdigest_ops.corpus.read import CorpusError, map_split, read_split
from smartdevdigest_ops.corpus.snapshot import check_disjoint, check_filled
from smartdevdigest_ops.corpus.split import SplitError, hashed_split, read_pinned
from smartdevdigest_ops.crawl.drops import register_drop
from smartdevdigest_ops.settings import PROJECT_DIR, CorpusSettings, Settings, load_settings

SAMPLE_DROPS = sorted((PROJECT_DIR / "data" / "sample" / "drops").glob("*.jsonl"))
WORDS = (
    *("pods", "nodes", "run", "the", "containers", "that", "a", "scheduler", "places"),
    *("and", "its", "network", "links", "them", "to", "every", "service"),
)


def text(seed: int, num_words: int = 150) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=num_words))


def record(url: str, content: str, **changes: Any) -> dict[str, Any]:
    fields = {"source_type": "blog", "url": f"https://a.example/{url}", "language": "en", "title": "T"}
    return fields | {"content": content} | changes


class Corpus:
    """Drops in a scratch store, cleaned."""

    def __init__(self, tmp_path: Path, run: Any, **overrides: Any) -> None:
        self.tmp_path, self.run = tmp_path, run
        store = {"store": {"root": str(tmp_path / "store")}}
        self.settings: Settings = load_settings("ci", overrides=store | overrides)
        self.store = ArtifactStore(self.settings.store_dir)

    def drop(self, name: str, *records: dict[str, Any]) -> str:
        path = self.tmp_path / name
        path.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
        return self.take_in(path)

    def take_in(self, path: Path) -> str:
        key = register_drop(self.store, path)
        self.run("raw_crawl", self.settings, key)
        return key

    def make(self, name: str) -> tuple[Making, Artifact]:
        making = self.run(name, self.settings)
        return making, self.store.open(name, making.version)

    def rows(self, kind: str) -> list[dict[str, Any]]:
        artifact = self.store.current("cleaned_corpus")
        assert artifact is not None
        files = sorted((artifact.path / kind).glob("*.parquet"))
        return [row for file in files for row in read_split(file.parent, file.stem)]


@pytest.fixture
def corpus(tmp_path: Path, run: Any) -> Corpus:
    return Corpus(tmp_path, run)


def test_all_eighty_sample_documents_are_kept_and_every_language_is_in_every_split(tmp_path: Path, run: Any) -> None:
    corpus = Corpus(tmp_path, run, corpus={"test_share": 0.2})
    for path in SAMPLE_DROPS:
        corpus.take_in(path)
    cleaned, _ = corpus.make("cleaned_corpus")
    frozen, snapshot = corpus.make("corpus_snapshot")
    assert (cleaned.metrics["num_documents"], cleaned.metrics["num_dropped"]) == (80, 0)
    assert all(check["passed"] for check in (*cleaned.checks, *frozen.checks))
    for language in ("ko", "en"):
        assert frozen.metrics[f"num_documents_test_{language}"] >= 4
        assert frozen.metrics[f"num_documents_valid_{language}"] >= 2
    for split in ("train", "valid", "test"):
        rows = read_split(snapshot.path, split)
        assert [row["document_id"] for row in rows] == sorted(row["document_id"] for row in rows)
        assert {row["split"] for row in rows} == {split}


def test_a_document_matched_in_an_earlier_drop_is_dropped_and_names_its_match(corpus: Corpus) -> None:
    first = corpus.drop("2026-01-01_a.jsonl", record("long", f"{text(1)} and one more"), record("other", text(2)))
    second = corpus.drop("2026-01-02_b.jsonl", record("short", text(1)), record("copy", text(2)), record("x", "tiny"))
    making, artifact = corpus.make("cleaned_corpus")
    dropped = read_split(artifact.path / "dropped", second)
    assert [(row["line"], row["reason"]) for row in dropped] == [
        (1, "near_duplicate"),
        (2, "exact_duplicate"),
        (3, "too_short"),
    ]
    assert "similar to https://a.example/long in 2026-01-01_a.jsonl line 1" in dropped[0]["detail"]
    assert dropped[1]["detail"] == "1.000 similar to https://a.example/other in 2026-01-01_a.jsonl line 2"
    assert dropped[2]["detail"] == "4 characters, at least 200 needed"
    assert [row["drop"] for row in corpus.rows("documents")] == [first, first]
    assert [check["passed"] for check in making.checks] == [True, True, True]
    assert "| 2026-01-02_b.jsonl | 1 | 1 | 1 |" in making.notes["markdown"]


def test_drops_are_ordered_by_file_name_and_the_newest_version_of_a_page_wins(corpus: Corpus) -> None:
    new = corpus.drop("2026-01-02_b.jsonl", record("page/?utm_source=x#top", text(2), title="New"))
    corpus.drop("2026-01-01_a.jsonl", record("page", text(1), title="Old"))
    corpus.make("cleaned_corpus")
    [kept] = corpus.rows("documents")
    assert (kept["title"], kept["drop"], kept["canonical_url"]) == ("New", new, "https://a.example/page")
    assert kept["document_id"] == content_hash("https://a.example/page")
    [lost] = corpus.rows("dropped")
    assert (lost["reason"], lost["detail"]) == ("superseded", "newer version in 2026-01-02_b.jsonl line 1")


def test_the_identified_language_replaces_a_wrongly_declared_one(corpus: Corpus) -> None:
    corpus.drop("a.jsonl", record("a", text(1), language="ko"))
    making, _ = corpus.make("cleaned_corpus")
    [row] = corpus.rows("documents")
    assert (row["language"], row["declared_language"]) == ("en", "ko")
    assert making.metrics["num_languages_corrected"] == 1


def test_no_document_changes_its_split_when_the_corpus_grows(corpus: Corpus) -> None:
    corpus.drop("2026-01-01_a.jsonl", *(record(str(n), text(n)) for n in range(40)))
    corpus.make("cleaned_corpus")
    before = {row["canonical_url"]: row["split"] for row in corpus.rows("documents")}
    longer = [record(f"longer-{n}", f"{text(n)} and one more") for n in range(0, 40, 2)]
    newer = [record(str(n), text(n + 100)) for n in range(1, 40, 2)]
    corpus.drop("2026-01-02_b.jsonl", *longer, *newer)
    corpus.make("cleaned_corpus")
    after = {row["canonical_url"]: row["split"] for row in corpus.rows("documents")}
    assert len(after) == 40
    assert {*before.values()} == {"train", "valid", "test"}
    for n in range(40):
        url = f"https://a.example/{n}"
        assert after[url if n % 2 else f"https://a.example/longer-{n}"] == before[url]


def test_files_of_held_out_documents_pin_them_and_what_replaces_them(tmp_path: Path, run: Any) -> None:
    held_out = tmp_path / "test.jsonl"
    held_out.write_text("".join(json.dumps(record(url, text(1))) + "\n" for url in ("1/", "2", "nowhere")))
    corpus = Corpus(tmp_path, run, data={"test_path": str(held_out)})
    corpus.drop("2026-01-01_a.jsonl", *(record(str(n), text(n)) for n in range(20)))
    corpus.drop("2026-01-02_b.jsonl", record("longer", f"{text(2)} and one more"))
    making, _ = corpus.make("cleaned_corpus")
    splits = {row["canonical_url"].rpartition("/")[2]: row["split"] for row in corpus.rows("documents")}
    assert (splits["1"], splits["longer"]) == ("test", "test")
    assert "2" not in splits
    assert making.metrics["num_pinned_urls"] == 3
    assert making.metrics["num_pinned_documents"] == 1


def test_a_url_held_out_twice_or_a_file_of_nothing_is_refused(tmp_path: Path) -> None:
    valid, test, empty = (tmp_path / f"{name}.jsonl" for name in ("valid", "test", "empty"))
    for path in (valid, test):
        path.write_text(json.dumps(record("same", text(1))))
    empty.write_text("{}\n")
    with pytest.raises(SplitError, match=r"https://a.example/same"):
        read_pinned(valid, test)
    with pytest.raises(SplitError, match=r"data\.valid_path"):
        read_pinned(empty, None)


def test_only_a_new_drop_is_prepared_and_a_fresh_store_gives_the_same_bytes(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[str] = []

    def counting(raw_dir: Path, out_file: Path, name: str, settings: CorpusSettings) -> None:
        prepared.append(name)
        prepare_drop(raw_dir, out_file, name, settings)

    monkeypatch.setattr("smartdevdigest_ops.corpus.stage.prepare_drop", counting)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    grown, fresh = Corpus(tmp_path / "one", run), Corpus(tmp_path / "two", run)
    grown.drop("a.jsonl", record("a", text(1)))
    grown.make("cleaned_corpus")
    grown.drop("b.jsonl", record("b", text(2)))
    making, _ = grown.make("cleaned_corpus")
    assert prepared == ["a.jsonl", "b.jsonl"]
    fresh.drop("b.jsonl", record("b", text(2)))
    fresh.drop("a.jsonl", record("a", text(1)))
    assert fresh.make("cleaned_corpus")[0].version == making.version


def test_a_corpus_of_which_nothing_is_left_fails(corpus: Corpus) -> None:
    corpus.drop("a.jsonl", record("a", "tiny"))
    with pytest.raises(CorpusError, match=r"No document is left of 1 records in 1 drops \(1 too_short\)"):
        corpus.make("cleaned_corpus")


def test_an_empty_split_is_written_and_its_check_says_what_to_change(corpus: Corpus) -> None:
    corpus.drop("a.jsonl", record("a", text(1)))
    corpus.make("cleaned_corpus")
    making, snapshot = corpus.make("corpus_snapshot")
    [filled] = [check for check in making.checks if check["name"] == "every_split_has_documents"]
    assert not filled["passed"]
    assert "corpus.split_salt" in filled["message"]
    assert sum(len(read_split(snapshot.path, split)) for split in ("train", "valid", "test")) == 1
    with pytest.raises(CorpusError, match="splits found"):
        read_split(snapshot.path, "dev")


def test_hashed_splits_have_their_shares_and_follow_the_salt() -> None:
    settings = CorpusSettings(valid_share=0.1, test_share=0.2)
    urls = [f"https://a.example/{n}" for n in range(4000)]
    counts = Counter(hashed_split(url, settings) for url in urls)
    assert counts["test"] == pytest.approx(800, abs=80)
    assert counts["valid"] == pytest.approx(400, abs=60)
    salted = settings.model_copy(update={"split_salt": "other"})
    assert any(hashed_split(url, settings) != hashed_split(url, salted) for url in urls[:50])
    more = settings.model_copy(update={"test_share": 0.3})
    assert all(hashed_split(url, more) == "test" for url in urls if hashed_split(url, settings) == "test")


def test_totals_reconcile_fails_when_a_record_is_lost() -> None:
    assert check_totals(3, 2, 1).passed
    assert not check_totals(3, 2, 0).passed


def test_no_duplicate_urls_fails_on_two_documents_of_one_page() -> None:
    assert check_urls(["a", "b"]).passed
    result = check_urls(["a", "b", "a"])
    assert not result.passed
    assert result.metadata == {"repeated": ["a"]}


def test_language_agrees_with_script_fails_on_a_korean_label_without_hangul() -> None:
    assert check_script(CleanCounts()).passed
    assert not check_script(CleanCounts(disagreeing=["https://a.example/a"])).passed


def test_splits_are_disjoint_fails_on_a_shared_url_text_or_cluster() -> None:
    import pyarrow as pa

    def table(url: str, sha: str, cluster: str) -> Any:
        return pa.table({"canonical_url": [url], "content_sha256": [sha], "cluster": [cluster]})

    assert check_disjoint({"train": table("a", "1", "x"), "test": table("b", "2", "y")}).passed
    for shared in (("a", "2", "y"), ("b", "1", "y"), ("b", "2", "x")):
        assert not check_disjoint({"train": table("a", "1", "x"), "test": table(*shared)}).passed


def test_every_split_has_documents_passes_with_one_each_and_names_the_empty() -> None:
    import pyarrow as pa

    one, none = pa.table({"language": ["ko"]}), pa.table({"language": pa.array([], pa.string())})
    assert check_filled({"train": one, "valid": one, "test": one}).passed
    result = check_filled({"train": one, "valid": none, "test": one})
    assert not result.passed
    assert "valid would be measured on nothing" in result.message


def test_a_split_mapped_from_disk_has_the_rows_that_reading_it_has(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"content": "하나"}, {"content": "two"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    mapped = map_split(tmp_path, "train", cache_dir=tmp_path / "cache")
    assert mapped.to_list() == read_split(tmp_path, "train") == rows


@pytest.mark.parametrize("damaged", [False, True])
def test_a_split_that_cannot_be_mapped_is_named(tmp_path: Path, damaged: bool) -> None:
    if damaged:
        (tmp_path / "train.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(CorpusError, match=r"train\.parquet"):
        map_split(tmp_path, "train", cache_dir=tmp_path / "cache")
