"""What a crawl takes from its sources: their lists, patterns, limits, and words about their pages."""

from pathlib import Path

import pytest
from changing_site import LICENCE, ChangingSite, article, feed, sitemap, source
from crawls import Crawler, blog, records


def test_a_source_that_fails_costs_the_others_nothing(site: ChangingSite, crawler: Crawler):
    posts, docs, papers = blog(site)
    site.put("/feed.xml", "<html><body>Under construction</body></html>")
    report = crawler(posts, docs, papers)
    assert report.num_failed == 1
    assert "no RSS or Atom feed" in str(report.sources["posts"].problem)
    # What the feed no longer claims is the sitemap's.
    assert str(report.sources["docs"]) == "5 listed = 4 emitted + 1 refused (1 robots)"


def test_one_broken_sitemap_of_an_index_costs_only_its_own_pages(site: ChangingSite, crawler: Crawler):
    site.put("/a", article("A", "Listed by the good one."))
    good = site.put("/good.xml", sitemap(site, "/a"), content_type="text/xml")
    index = (
        '<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
        f"<sitemap><loc>{site.url('/missing.xml')}</loc></sitemap><sitemap><loc>{good}</loc></sitemap>"
        "<sitemap><loc>http://elsewhere.example/sitemap.xml</loc></sitemap></sitemapindex>"
    )
    report = crawler(source("docs", "sitemap", site.put("/index.xml", index, content_type="text/xml")))
    assert str(report.sources["docs"]) == "1 listed = 1 emitted"
    assert "HTTP 404" in str(report.sources["docs"].problem)
    assert "1 sitemaps on other hosts" in str(report.sources["docs"].note)


def test_a_source_none_of_whose_pages_could_be_had_has_failed(site: ChangingSite, crawler: Crawler):
    site.put("/a", "", status=403)
    report = crawler(source("one", "urls", urls=(site.url("/a"),)))
    assert report.num_failed == 1
    assert "1 http_403" in str(report.sources["one"].problem)


def test_what_a_page_does_not_say_of_itself_is_taken_from_its_feed_and_stays_known(
    site: ChangingSite, crawler: Crawler
):
    site.put("/a", article(None, "No title and no author here."), has_etag=False)
    entry = {"path": "/a", "title": "From the feed", "author": "Kim Minji", "date": "Mon, 02 Nov 2026 06:00:00 GMT"}
    posts = source("posts", "feed", site.put("/feed.xml", feed(site, entry | {"tag": "queues"})))
    report = crawler(posts)
    record = records(report)["/a"]
    assert (record["title"], record["author"], record["tags"]) == ("From the feed", "Kim Minji", ["queues"])
    assert record["publish_date"].startswith("2026-11-02")
    assert (record["source"], record["licence"], record["source_type"]) == ("posts", LICENCE, "blog")
    # The feed shows its newest entries only; what it said before is no change of the page.
    site.put("/b", article("B", "A newer page."))
    site.put("/feed.xml", feed(site, {"path": "/b"}))
    second = crawler(posts, source("list", "urls", urls=(site.url("/a"),)))
    assert set(records(second)) == {"/b"}


@pytest.mark.parametrize(
    ("declared", "of_source", "text", "language"),
    [
        ("ko", "en", "Only the page declares Korean.", "ko"),
        (None, "ko", "The source says Korean.", "ko"),
        (None, None, "한국어로 쓴 문서입니다. 작업은 큐에 들어가고, 작업자가 하나씩 꺼내어 처리합니다. " * 4, "ko"),
        (None, None, "Nobody says anything.", "en"),
    ],
)
def test_the_language_is_the_pages_else_the_sources_else_by_its_script(
    site: ChangingSite, crawler: Crawler, declared: str | None, of_source: str | None, text: str, language: str
):
    site.put("/a", article("A", text, language=declared))
    report = crawler(source("one", "urls", urls=(site.url("/a"),), language=of_source))
    assert records(report)["/a"]["language"] == language


def test_a_source_of_another_type_gives_its_pages_again(site: ChangingSite, crawler: Crawler):
    page = source("one", "urls", urls=(site.put("/a", article("A", "Its text stays.")),))
    crawler(page)
    report = crawler(page.model_copy(update={"source_type": "paper"}))
    assert records(report)["/a"]["source_type"] == "paper"


def test_a_limited_source_goes_round_new_and_changed_pages_first(site: ChangingSite, crawler: Crawler):
    paths = [f"/{name}" for name in "abcde"]
    for path in paths:
        site.put(path, article(path, "One of five."))
    asked = []
    for number in range(5):
        changed = {"/a": "2026-11-04"} if number == 3 else {}
        url = site.put("/sitemap.xml", sitemap(site, *paths, changed=changed), content_type="text/xml")
        site.forget()
        report = crawler(source("docs", "sitemap", url, max_pages=2))
        asked.append("".join(path[1] for path in paths if site.counts()[path]))
        assert report.sources["docs"].waiting == {"limit": 3}
    # e is new until the third crawl, a is said to have changed at the fourth; then who waited longest.
    assert asked == ["ab", "cd", "ae", "ab", "cd"]


def test_a_page_looked_at_lately_is_left_alone_unless_its_listing_has_it_changed(site: ChangingSite, crawler: Crawler):
    for path in ("/a", "/b"):
        site.put(path, article(path, "One of two."))
    url = site.put("/sitemap.xml", sitemap(site, "/a", "/b"), content_type="text/xml")
    crawler(source("docs", "sitemap", url), recheck_hours=100)
    site.put("/sitemap.xml", sitemap(site, "/a", "/b", changed={"/b": "2026-11-04"}), content_type="text/xml")
    site.forget()
    report = crawler(source("docs", "sitemap", url), recheck_hours=100)
    assert str(report.sources["docs"]) == "2 listed = 1 not modified + 1 waiting (1 not_due)"
    assert site.counts()["/a"] == 0


def test_patterns_and_entries_without_a_page_are_counted_and_never_asked_for(site: ChangingSite, crawler: Crawler):
    site.put("/a", article("A", "The only page."))
    site.put("/tags/a", article("Tag", "Everything about a."))
    body = sitemap(site, "/a", "/a", "/tags/a").replace(
        "</urlset>", "<url><loc>mailto:me@site.example</loc></url></urlset>"
    )
    url = site.put("/sitemap.xml", body, content_type="text/xml")
    report = crawler(source("docs", "sitemap", url, exclude=("/tags/",)))
    assert str(report.sources["docs"]) == ("4 listed = 1 emitted + 1 repeated + 2 refused (1 excluded, 1 not_http)")
    assert "/tags/a" not in site.counts()


def test_one_sitemap_can_serve_two_sources_by_their_patterns(site: ChangingSite, crawler: Crawler):
    for path in ("/en/a", "/ko/a"):
        site.put(path, article(path, "The same text in either place.", language=None))
    url = site.put("/sitemap.xml", sitemap(site, "/en/a", "/ko/a"), content_type="text/xml")
    sources = (
        source("english", "sitemap", url, include=("/en/",), language="en"),
        source("korean", "sitemap", url, include=("/ko/",), language="ko"),
    )
    report = crawler(*sources)
    assert {path: record["language"] for path, record in records(report).items()} == {"/en/a": "en", "/ko/a": "ko"}
    assert str(report.sources["korean"]) == "2 listed = 1 emitted + 1 refused (1 excluded)"


def test_a_list_of_urls_is_read_from_a_local_file_or_from_the_web(site: ChangingSite, crawler: Crawler, tmp_path: Path):
    site.put("/a", article("A", "From the local list."))
    site.put("/b", article("B", "From the list on the web."))
    (tmp_path / "list.txt").write_text(f"# pages\n{site.url('/a')}  # the first\n")
    url = site.put("/list.txt", f"{site.url('/b')}\n", content_type="text/plain")
    sources = (source("local", "urls", path=str(tmp_path / "list.txt")), source("web", "urls", url))
    assert set(records(crawler(*sources))) == {"/a", "/b"}
    (tmp_path / "list.txt").unlink()
    report = crawler(*sources)
    assert "list.txt" in str(report.sources["local"].problem)
    assert str(report.sources["web"]) == "1 listed = 1 not modified"


def test_a_damaged_feed_gives_what_can_be_read_and_says_so(site: ChangingSite, crawler: Crawler):
    site.put("/a", article("A", "From a damaged feed."))
    whole = feed(site, {"path": "/a", "title": "A"}, {"path": "/b", "title": "B"})
    url = site.put("/feed.xml", whole[: whole.index("<item>", whole.index("<item>") + 1) + 8])
    report = crawler(source("posts", "feed", url))
    assert report.num_failed == 0
    assert "damaged" in str(report.sources["posts"].note)
    assert set(records(report)) == {"/a"}
