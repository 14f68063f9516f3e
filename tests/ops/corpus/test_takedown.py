"""The takedown list: what it names leaves the corpus, and whoever learned from it is named."""

from pathlib import Path
from typing import Any

import pytest
from corpus_samples import Corpus, publish, record, text

from smartdevdigest_ops.artifacts import Making, content_hash
from smartdevdigest_ops.corpus.takedown import TakedownError, read_takedowns
from smartdevdigest_ops.corpus.url import canonical_url
from smartdevdigest_ops.lineage.impact import find_impact


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_url_is_found_under_any_of_its_spellings_and_a_pattern_in_its_place(tmp_path: Path) -> None:
    takedowns = read_takedowns(
        write(
            tmp_path / "takedown.txt",
            "# asked on 2026-11-02",
            "https://a.example/page/?utm_source=mail   author's letter",
            "https://b.example/blog/*",
            "",
            "https://*.c.example/*",
        )
    )
    assert len(takedowns) == 3
    assert takedowns.line_of("https://a.example/page") == 2
    assert takedowns.line_of("https://b.example/blog/2026/x") == 3
    assert takedowns.line_of("https://www.c.example/x") == 5
    for url in ("https://a.example/pages", "https://b.example/news", "https://c.example/x", "http://b.example/blog/x"):
        assert takedowns.line_of(url) is None
    assert len(read_takedowns(None)) == 0


@pytest.mark.parametrize(
    ("pattern", "page"),
    [
        ("https://a.example/글/*", "https://a.example/글/하나"),
        ("https://A.example/blog/*", "https://a.example/blog/x"),
        ("https://a.example/blog/*/", "https://a.example/blog/x/"),
        ("https://a.example:443/b/*", "https://a.example/b/x"),
        ("https://a.example/%7Euser/*", "https://a.example/~user/x"),
        ("https://*.Example/a?id=*", "https://www.example/a?id=7"),
    ],
)
def test_a_pattern_is_compared_in_the_spelling_of_canonical_urls(tmp_path: Path, pattern: str, page: str) -> None:
    takedowns = read_takedowns(write(tmp_path / "takedown.txt", pattern))
    assert takedowns.line_of(canonical_url(page)) == 1


@pytest.mark.parametrize("line", ["a.example/page", "*", "ftp://a.example/*", "https//a.example"])
def test_a_line_that_is_not_understood_stops_everything(tmp_path: Path, line: str) -> None:
    with pytest.raises(TakedownError, match=r"takedown\.txt line 2"):
        read_takedowns(write(tmp_path / "takedown.txt", "https://a.example/ok", line))


def test_pages_taken_down_leave_the_corpus_and_what_learned_from_them_is_named(tmp_path: Path, run: Any) -> None:
    takedown = write(tmp_path / "takedown.txt", "")
    corpus = Corpus(tmp_path, run, data={"takedown_path": str(takedown)})
    news = [record(f"news/{n}", text(n)) for n in range(100, 140)]
    corpus.drop("1.jsonl", *(record(f"blog/{n}", text(n)) for n in range(3)), *news)
    before, _ = corpus.make("cleaned_corpus")
    snapshot, _ = corpus.make("corpus_snapshot")
    splits = corpus.kept()
    assert before.metrics["num_documents"] == 43
    version = publish(corpus.store, "m1_checkpoint", lambda out: (out / "model.safetensors").write_bytes(b""))
    corpus.store.record(
        Making("m1_checkpoint", None, version, "f" * 16, {"corpus_snapshot": snapshot.version}, {}, "1", {}, {}, {}, [])
    )
    write(takedown, "https://a.example/blog/*")
    making, _ = corpus.make("cleaned_corpus")
    assert corpus.kept() == {url: split for url, split in splits.items() if "/news/" in url}
    assert {(row["reason"], row["detail"]) for row in corpus.decisions() if not row["kept"]} == {
        ("taken_down", "on the takedown list")
    }
    assert making.metrics["num_dropped_taken_down"] == 3
    assert making.metrics["num_taken_down_in_snapshot"] == 3
    assert making.notes["taken_down"]["urls"] == [f"https://a.example/blog/{n}" for n in range(3)]
    named = making.notes["taken_down"]["went_into"]
    assert [line.partition(": ")[2] for line in named] == [
        "taken in (3)",
        "cleaned (3)",
        "kept (3)",
        f"frozen (3, split {splits['https://a.example/blog/0']})",
        "trained on 3",
    ]
    assert named[3].startswith(f"corpus_snapshot@{snapshot.version} (current)")
    assert making.metrics["num_taken_down"] == 3
    assert making.metrics["num_current_that_learned_from_taken_down"] == 1
    assert "3 documents of the drops are marked for removal" in making.notes["takedown_impact"]
    assert f"| m1_checkpoint@{version} | trained on 3 |" in making.notes["takedown_impact"]
    corpus.make("corpus_snapshot")
    corpus.drop("2.jsonl", record("other", text(20)))
    making, _ = corpus.make("cleaned_corpus")
    assert making.metrics["num_taken_down_in_snapshot"] == 0
    named = find_impact(corpus.store, [content_hash("https://a.example/blog/1")])
    assert [(each.asset, each.is_current) for each in named] == [
        ("raw_crawl", True),
        ("cleaned_documents", True),
        ("cleaned_corpus", False),
        ("corpus_snapshot", False),
        ("m1_checkpoint", True),
    ]
    assert find_impact(corpus.store, [content_hash("https://nowhere.example/")]) == []
