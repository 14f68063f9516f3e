"""The sources file."""

from pathlib import Path

import pytest
import yaml

from smartdevdigest_ops.crawl.sources import Source, SourcesError, load_sources
from smartdevdigest_ops.settings import PROJECT_DIR

FEED = {
    "name": "blog",
    "kind": "feed",
    "url": "https://blog.example/rss",
    "source_type": "blog",
    "licence": "CC-BY-4.0",
}


def written(tmp_path: Path, *sources: object) -> Path:
    path = tmp_path / "sources.yaml"
    path.write_text(yaml.safe_dump({"sources": list(sources)}, allow_unicode=True))
    return path


def test_the_project_s_own_file_is_valid_and_crawls_nobody() -> None:
    path = PROJECT_DIR / "config" / "sources.yaml"
    assert load_sources(path) == ()
    examples = yaml.safe_load(path.read_text())["sources"]
    assert {example["kind"] for example in examples} == {"feed", "sitemap", "urls"}


def test_sources_come_in_the_file_s_order_without_the_disabled_ones(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        FEED,
        FEED | {"name": "off", "enabled": False},
        {
            "name": "list",
            "kind": "urls",
            "urls": ["https://a.example/1"],
            "source_type": "paper",
            "licence": "CC0",
            "language": "ko",
        },
    )
    blog, urls = load_sources(path)
    assert (blog.name, blog.language, blog.max_pages) == ("blog", None, 1000)
    assert (urls.source_type, urls.language, urls.urls) == ("paper", "ko", ("https://a.example/1",))


def test_patterns_decide_which_pages_are_taken() -> None:
    source = Source(**FEED, include=[r"/docs/", r"/blog/"], exclude=[r"/docs/old/", r"\.pdf$"])  # type: ignore[arg-type]
    taken = ["https://x.example/docs/a", "https://x.example/blog/b"]
    left = ["https://x.example/about", "https://x.example/docs/old/a", "https://x.example/docs/a.pdf"]
    assert [url for url in taken + left if source.takes(url)] == taken
    assert Source(**FEED).takes("https://anything.example/")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            FEED | {"licens": "MIT"},
            r"source 1 \(blog\): `licens` is an unknown key. Meant is perhaps `licence`. Known: enabled",
        ),
        ({key: value for key, value in FEED.items() if key != "licence"}, "`licence` is missing: Terms under which"),
        (FEED | {"licence": "  "}, "`licence` must name the terms"),
        (FEED | {"kind": "rss"}, "`kind` should be 'feed', 'sitemap' or 'urls', found 'rss'"),
        (FEED | {"source_type": "wiki"}, "`source_type` should be 'blog', 'paper' or 'news', found 'wiki'"),
        (FEED | {"language": "ja"}, "`language` should be 'ko' or 'en', found 'ja'"),
        (FEED | {"name": "My blog"}, "`name` must be: Short name.* found 'My blog'"),
        (FEED | {"name": 2026}, "`name` should be a valid string, found '2026'"),
        (FEED | {"url": "blog.example/rss"}, "`url` must be an absolute http"),
        (FEED | {"url": "file:///etc/passwd"}, "`url` must be an absolute http"),
        (FEED | {"url": "https://me:pw@blog.example/"}, "`url` must not carry a user name or password"),
        (FEED | {"include": ["("]}, "`include` .* is no regular expression"),
        (FEED | {"max_pages": 0}, "`max_pages` should be greater than 0, found '0'"),
        (FEED | {"path": "urls.txt"}, "kind feed needs url and nothing else to list from, found url and path"),
        (FEED | {"kind": "urls", "url": None}, "kind urls needs one of url, path and urls, found none"),
        (FEED | {"kind": "urls", "path": "x"}, "kind urls needs one of url, path and urls, found url and path"),
        ("https://blog.example/rss", "source 1: must be a mapping of keys, found 'https://blog.example/rss'"),
    ],
)
def test_a_wrong_source_is_refused_with_what_was_found_and_needed(tmp_path: Path, source: object, message: str) -> None:
    with pytest.raises(SourcesError, match=message) as refused:
        load_sources(written(tmp_path, source))
    assert "sources.yaml is refused and nothing is crawled until it is mended" in str(refused.value)


def test_all_faults_are_named_at_once_also_those_of_disabled_sources(tmp_path: Path) -> None:
    path = written(tmp_path, FEED | {"kind": "x", "enabled": False}, FEED | {"name": "b", "max_pages": -1}, FEED)
    with pytest.raises(SourcesError, match=r"(?s)source 1 \(blog\): `kind`.*source 2 \(b\): `max_pages`"):
        load_sources(path)


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourcesError, match="name 'blog' is given to 2 sources"):
        load_sources(written(tmp_path, FEED, FEED | {"url": "https://other.example/rss"}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources:\n  - name: a\n    name: b\n", "key 'name' is given twice"),
        ("source: []\n", "must hold the one key `sources` with a list of sources, found keys source"),
        ("- a\n", "found a list without that key"),
        ("", "found nothing"),
        ("https://blog.example/rss\n", "found the text 'https://blog.example/rss'"),
        ("sources: {a: 1}\n", "found `sources` with keys in place of a list"),
        ("sources: 7\n", "found `sources` with one value in place of a list"),
        ("sources: [\n", "could not be read"),
        ("sources:\n  - !!python/object/apply:os.system [true]\n", "could not be read"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text(text)
    with pytest.raises(SourcesError, match=message):
        load_sources(path)


def test_an_empty_list_is_no_fault_and_a_missing_file_is_one(tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text("sources:\n")
    assert load_sources(path) == ()
    with pytest.raises(SourcesError, match=r"There is no .*crawl\.sources_path says"):
        load_sources(tmp_path / "none.yaml")
