"""The stages cleaned_documents, cleaned_corpus and corpus_snapshot on small drops."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from corpus_samples import SAMPLE_DROPS, Corpus, damage, record, text

from smartdevdigest_ops.artifacts import ArtifactError, content_hash
from smartdevdigest_ops.corpus.read import CorpusError, corpus_drops, map_split, read_corpus, read_split
from smartdevdigest_ops.corpus.split import SplitError, hashed_split, read_pinned
from smartdevdigest_ops.housekeeping.verify import verify_store
from smartdevdigest_ops.settings import SplitSettings, load_settings


@pytest.fixture
def corpus(tmp_path: Path, run: Any) -> Corpus:
    return Corpus(tmp_path, run)


def test_all_eighty_sample_documents_are_kept_and_every_language_is_in_every_split(tmp_path: Path, run: Any) -> None:
    corpus = Corpus(tmp_path, run, corpus={"split": {"test_share": 0.2}})
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
        assert {row["split"] for row in read_split(snapshot.path, split)} == {split}
    assert "![kept and dropped](data:image/png;base64," in cleaned.notes["markdown"]


def test_a_document_matched_in_an_earlier_drop_is_dropped_and_names_its_match(corpus: Corpus) -> None:
    first = corpus.drop("2026-01-01_a.jsonl", record("long", f"{text(1)} And one more."), record("other", text(2)))
    second = corpus.drop("2026-01-02_b.jsonl", record("short", text(1)), record("copy", text(2)), record("x", "tiny"))
    making, artifact = corpus.make("cleaned_corpus")
    rows = corpus.decisions(second)
    assert [(row["line"], row["kept"], row["reason"]) for row in rows] == [
        (1, False, "near_duplicate"),
        (2, False, "exact_duplicate"),
    ]
    assert rows[0]["match_url"] == "https://a.example/long"
    assert "similar to https://a.example/long in 2026-01-01_a.jsonl line 1" in rows[0]["detail"]
    assert rows[0]["similarity"] >= 0.8
    assert rows[1]["detail"] == "1.000 similar to https://a.example/other in 2026-01-01_a.jsonl line 2"
    [short] = read_split(corpus.store.current("cleaned_documents", second).path, "dropped")  # type: ignore[union-attr]
    assert (short["line"], short["reason"], short["detail"]) == (3, "too_short", "4 characters, at least 200 needed")
    assert corpus.kept().keys() == {"https://a.example/long", "https://a.example/other"}
    tables = read_corpus(corpus.store, artifact, ["drop", "url", "document_id"])
    assert [drop for table in tables for drop in table["drop"].to_pylist()] == [first, first]
    assert [check["passed"] for check in making.checks] == [True]
    assert making.checks[0]["message"] == "5 records in = 2 documents kept + 3 dropped with a reason"
    assert "| too_short | 0 | 1 |" in making.notes["markdown"]


def test_the_newest_version_of_a_page_wins_by_the_drops_names(corpus: Corpus) -> None:
    new = corpus.drop("2026-01-02_b.jsonl", record("page/?utm_source=x#top", text(2), title="New"))
    old = corpus.drop("2026-01-01_a.jsonl", record("page", text(1), title="Old"))
    _, artifact = corpus.make("cleaned_corpus")
    [table] = [each for each in read_corpus(corpus.store, artifact) if each.num_rows]
    [kept] = table.to_pylist()
    assert (kept["title"], kept["drop"], kept["canonical_url"]) == ("New", new, "https://a.example/page")
    assert kept["document_id"] == content_hash("https://a.example/page")
    [lost] = corpus.decisions(old)
    assert (lost["reason"], lost["detail"]) == ("superseded", "newer version in 2026-01-02_b.jsonl line 1")


def test_the_identified_language_replaces_a_wrongly_declared_one(corpus: Corpus) -> None:
    key = corpus.drop("a.jsonl", record("a", text(1), language="ko"))
    making = corpus.store.current_making("cleaned_documents", key)
    assert making is not None
    assert making.metrics["num_languages_corrected"] == 1
    corpus.make("cleaned_corpus")
    [row] = corpus.decisions()
    assert row["language"] == "en"


def test_no_document_changes_its_split_when_the_corpus_grows(corpus: Corpus) -> None:
    corpus.drop("2026-01-02_a.jsonl", *(record(str(n), text(n)) for n in range(40)))
    corpus.make("cleaned_corpus")
    before = corpus.kept()
    longer = [record(f"longer-{n}", f"{text(n)} And one more.") for n in range(0, 40, 2)]
    newer = [record(str(n), text(n + 100)) for n in range(1, 40, 2)]
    corpus.drop("2026-01-03_b.jsonl", *longer, *newer)
    # An older drop that comes late stands behind: it changes nobody's cluster.
    corpus.drop("2026-01-01_c.jsonl", *(record(f"early-{n}", f"{text(n)} And one.") for n in range(0, 40, 2)))
    making, _ = corpus.make("cleaned_corpus")
    after = corpus.kept()
    assert len(after) == 40
    assert {*before.values()} == {"train", "valid", "test"}
    for n in range(40):
        url = f"https://a.example/{n}"
        assert after[url if n % 2 else f"https://a.example/longer-{n}"] == before[url]
    assert making.metrics["num_moved_documents"] == 0


def test_files_of_held_out_documents_pin_them_and_what_replaces_them(tmp_path: Path, run: Any) -> None:
    held_out = tmp_path / "test.jsonl"
    held_out.write_text("".join(json.dumps(record(url, text(1))) + "\n" for url in ("1/", "2", "nowhere")))
    corpus = Corpus(tmp_path, run, data={"test_path": str(held_out)})
    corpus.drop("2026-01-01_a.jsonl", *(record(str(n), text(n)) for n in range(20)))
    corpus.drop("2026-01-02_b.jsonl", record("longer", f"{text(2)} And one more."))
    making, _ = corpus.make("cleaned_corpus")
    splits = {url.rpartition("/")[2]: split for url, split in corpus.kept().items()}
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


def test_decisions_that_did_not_change_are_the_same_file_and_a_fresh_store_gives_the_same_bytes(
    tmp_path: Path, run: Any
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    grown, fresh = Corpus(tmp_path / "one", run), Corpus(tmp_path / "two", run)
    a, b, c = (record(name, text(n)) for n, name in enumerate("abc"))
    others = [record(name, text(n)) for n, name in enumerate("de", start=4)]
    keys = [grown.drop("1.jsonl", a), grown.drop("2.jsonl", b, *others)]
    _, first = grown.make("cleaned_corpus")
    grown.drop("3.jsonl", c, record("longer", f"{text(1)} And one more."))
    making, second = grown.make("cleaned_corpus")
    same, changed = (
        (first.path / name).stat().st_ino == (second.path / name).stat().st_ino
        for name in (f"decisions/{key}.parquet" for key in keys)
    )
    assert (same, changed) == (True, False)
    assert making.metrics["num_drops_compared"] == 1
    for name, records in (
        ("3.jsonl", (c, record("longer", f"{text(1)} And one more."))),
        ("1.jsonl", (a,)),
        ("2.jsonl", (b, *others)),
    ):
        fresh.drop(name, *records)
    anew = fresh.make("cleaned_corpus")[0]
    assert anew.version == making.version
    assert anew.metrics | {"num_drops_compared": 1} == making.metrics
    assert verify_store(grown.store).problems == ()


def test_a_lost_index_is_built_again_with_the_same_result(corpus: Corpus) -> None:
    corpus.drop("2.jsonl", record("b", text(2)))
    corpus.make("cleaned_corpus")
    corpus.drop("1.jsonl", record("a", text(1)), record("b", text(3)))
    before, artifact = corpus.make("cleaned_corpus")
    assert [drop.name for drop in corpus_drops(artifact.path)] == ["2.jsonl", "1.jsonl"]  # as they came
    (corpus.store.root / ".cache" / "corpus_index.sqlite").unlink()
    for path in (corpus.store.root / "cleaned_corpus" / "makings").glob("*.json"):
        if path.stem == before.fingerprint:
            path.rename(path.with_suffix(".away"))
    pointer = corpus.store.root / "cleaned_corpus" / "current.json"
    [other] = (corpus.store.root / "cleaned_corpus" / "makings").glob("*.json")
    pointer.write_text(json.dumps({"version": "", "fingerprint": other.stem}))
    after, _ = corpus.make("cleaned_corpus")
    assert after.version == before.version
    assert after.metrics["num_drops_compared"] == 2


def test_killed_while_it_compares_the_corpus_goes_on_where_it_was(corpus: Corpus) -> None:
    for number in range(3):
        corpus.drop(f"{number}.jsonl", *(record(f"{number}-{n}", text(100 * number + n)) for n in range(30)))
    script = """
import os, signal, sys
from smartdevdigest_ops.corpus import assemble
from smartdevdigest_ops.settings import load_settings
from smartdevdigest_ops.stage import plan_stage, run_stage
place, placed = assemble._place_drop, []
def die_in_the_second(*arguments):
    placed.append(1)
    place(*arguments)
    if len(placed) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
assemble._place_drop = die_in_the_second
run_stage(plan_stage("cleaned_corpus", load_settings("ci", overrides={"store": {"root": sys.argv[1]}})))
"""
    killed = subprocess.run(
        [sys.executable, "-c", script, str(corpus.store.root)], capture_output=True, check=False, env=os.environ
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert corpus.store.current("cleaned_corpus") is None
    making, _ = corpus.make("cleaned_corpus")
    assert making.metrics["num_drops_compared"] == 2
    assert making.metrics["num_documents"] == 90


def test_a_damaged_drop_is_refused_when_it_is_new(corpus: Corpus) -> None:
    key = corpus.drop("a.jsonl", record("a", text(1)))
    artifact = corpus.store.current("cleaned_documents", key)
    assert artifact is not None
    damage(artifact.path / "documents.parquet")
    with pytest.raises(ArtifactError, match="damaged"):
        corpus.make("cleaned_corpus")


def test_damage_after_cleaning_does_not_reach_the_snapshot_nor_the_next_corpus(corpus: Corpus) -> None:
    key = corpus.drop("1.jsonl", *(record(str(n), text(n)) for n in range(40)))
    _, first = corpus.make("cleaned_corpus")
    damage(first.path / f"decisions/{key}.parquet")
    corpus.drop("2.jsonl", record("other", text(77)))
    _, second = corpus.make("cleaned_corpus")
    assert second.problems() == []
    artifact = corpus.store.current("cleaned_documents", key)
    assert artifact is not None
    damage(artifact.path / "documents.parquet")
    with pytest.raises(ArtifactError, match="damaged"):
        corpus.make("corpus_snapshot")


def test_a_damaged_page_of_the_index_costs_a_rebuild(corpus: Corpus) -> None:
    corpus.drop("1.jsonl", *(record(str(n), text(n)) for n in range(40)))
    before, _ = corpus.make("cleaned_corpus")
    index = corpus.store.root / ".cache" / "corpus_index.sqlite"
    damage(index, first=8192, last=index.stat().st_size)
    corpus.drop("2.jsonl", record("other", text(77)))
    making, _ = corpus.make("cleaned_corpus")
    assert making.metrics["num_documents"] == before.metrics["num_documents"] + 1
    assert making.metrics["num_drops_compared"] == 2


def test_a_drop_with_signatures_of_other_settings_is_refused(tmp_path: Path, run: Any) -> None:
    corpus = Corpus(tmp_path, run)
    corpus.drop("1.jsonl", record("a", text(1)))
    overrides = {"store": {"root": str(corpus.store.root)}, "corpus": {"duplicates": {"permutations": 63, "bands": 9}}}
    corpus.settings = load_settings("ci", overrides=overrides)
    with pytest.raises(CorpusError, match="cannot be compared"):
        corpus.make("cleaned_corpus")


def test_a_removed_version_of_the_corpus_does_not_change_the_order_of_the_drops(corpus: Corpus) -> None:
    corpus.drop("2.jsonl", record("b", text(2)))
    corpus.make("cleaned_corpus")
    corpus.drop("1.jsonl", record("a", f"{text(2)} And one more."))
    before, artifact = corpus.make("cleaned_corpus")
    shutil.rmtree(artifact.path)
    after, _ = corpus.make("cleaned_corpus")
    assert after.version == before.version


def test_a_corpus_of_which_nothing_is_left_fails(corpus: Corpus) -> None:
    corpus.drop("a.jsonl", record("a", "tiny"))
    with pytest.raises(CorpusError, match=r"No document is left of 1 records in 1 drops \(dropped: 1 too_short\)"):
        corpus.make("cleaned_corpus")


def test_an_empty_split_is_written_and_its_check_says_what_to_change(corpus: Corpus) -> None:
    corpus.drop("a.jsonl", record("a", text(1)))
    corpus.make("cleaned_corpus")
    making, snapshot = corpus.make("corpus_snapshot")
    [filled] = [check for check in making.checks if check["name"] == "every_split_has_documents"]
    assert not filled["passed"]
    assert "corpus.split.salt" in filled["message"]
    assert sum(len(read_split(snapshot.path, split)) for split in ("train", "valid", "test")) == 1
    with pytest.raises(CorpusError, match="splits found"):
        read_split(snapshot.path, "dev")


def test_a_drop_that_is_not_in_the_corpus_cannot_be_read_from_it(corpus: Corpus) -> None:
    corpus.drop("a.jsonl", record("a", text(1)))
    _, artifact = corpus.make("cleaned_corpus")
    with pytest.raises(CorpusError, match="Drop b is not in cleaned_corpus"):
        list(read_corpus(corpus.store, artifact, drops=["b"]))


def test_hashed_splits_have_their_shares_and_follow_the_salt() -> None:
    settings = SplitSettings(valid_share=0.1, test_share=0.2)
    urls = [f"https://a.example/{n}" for n in range(4000)]
    counts = Counter(hashed_split(url, settings) for url in urls)
    assert counts["test"] == pytest.approx(800, abs=80)
    assert counts["valid"] == pytest.approx(400, abs=60)
    salted = settings.model_copy(update={"salt": "other"})
    assert any(hashed_split(url, settings) != hashed_split(url, salted) for url in urls[:50])
    more = settings.model_copy(update={"test_share": 0.3})
    assert all(hashed_split(url, more) == "test" for url in urls if hashed_split(url, settings) == "test")


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
