"""Whole crawls of a real site on loopback: what is fetched, what is emitted, and what is left alone."""

from pathlib import Path

from changing_site import LICENCE, ChangingSite, article, source
from crawls import Crawler, blog, records

from smartdevdigest_ops.drops.stage import take_in_drop


def test_feed_sitemap_and_list_become_one_drop_that_the_contract_accepts(
    site: ChangingSite, crawler: Crawler, tmp_path: Path
):
    report = crawler(*blog(site))
    found = records(report)
    assert set(found) == {
        "/posts/queues", "/posts/caches", "/docs/install", "/docs/ko", "/docs/plain", "/papers/one",
    }  # fmt: skip
    assert {name: str(counts) for name, counts in report.sources.items()} == {
        "posts": "2 listed = 2 emitted",
        "docs": "5 listed = 3 emitted + 1 repeated + 1 refused (1 robots)",
        "papers": "2 listed = 1 emitted + 1 refused (1 http_404)",
    }
    assert report.num_failed == 0
    # A page listed by two sources is asked for once, and what robots.txt forbids not at all.
    assert {path: number for path, number in site.counts().items() if number > 1} == {}
    assert "/drafts/secret" not in site.counts()
    (tmp_path / "out").mkdir()
    counts = take_in_drop(Path(report.drop.address), tmp_path / "out", "drop")
    assert (counts.num_records, counts.num_rejects) == (6, 0)


def test_a_second_crawl_of_an_unchanged_site_makes_no_drop_and_carries_no_page_again(
    site: ChangingSite, crawler: Crawler
):
    sources = blog(site)
    crawler(*sources)
    site.forget()
    report = crawler(*sources)
    assert report.drop is None
    assert sorted(path.name for path in crawler.incoming.iterdir()) == [Path(crawler_drop(crawler)).name]
    assert {name: str(counts) for name, counts in report.sources.items()} == {
        "posts": "2 listed = 2 not modified",
        "docs": "5 listed = 1 unchanged + 2 not modified + 1 repeated + 1 refused (1 robots)",
        "papers": "2 listed = 1 not modified + 1 refused (1 http_404)",
    }
    # Only the page without validators, robots.txt and the missing page were answered in full.
    assert {path for path, status in site.asked if status != 304} == {"/robots.txt", "/docs/plain", "/papers/oen"}
    assert {"/feed.xml", "/sitemap.xml"} <= set(site.counts())


def crawler_drop(crawler: Crawler) -> str:
    (drop,) = {line["drop_name"] for line in crawler.ledger()} - {None}
    return str(drop)


def test_a_changed_page_alone_is_emitted_again_in_a_drop_that_comes_later_by_name(site: ChangingSite, crawler: Crawler):
    sources = blog(site)
    first = crawler(*sources)
    site.put("/docs/install", article("Installing", "Installing takes an hour by now."))
    second = crawler(*sources)
    assert set(records(second)) == {"/docs/install"}
    assert records(second)["/docs/install"]["url"] == records(first)["/docs/install"]["url"]
    assert "an hour by now" in records(second)["/docs/install"]["content"]
    assert Path(second.drop.address).name > Path(first.drop.address).name


def test_a_page_whose_frame_changed_and_whose_text_did_not_is_not_emitted_again(site: ChangingSite, crawler: Crawler):
    page = source("one", "urls", urls=(site.put("/a", article("A page", "Its text stays.")),))
    crawler(page)
    site.put("/a", article("A page", "Its text stays.", menu="Home | News | 3 visitors online"))
    report = crawler(page)
    assert report.drop is None
    assert str(report.sources["one"]) == "1 listed = 1 unchanged"


def test_a_page_that_went_back_to_its_last_text_is_unchanged(site: ChangingSite, crawler: Crawler):
    page = source("one", "urls", urls=(site.put("/a", article("A page", "Its text stays.")),))
    crawler(page)
    site.put("/a", "", status=500)
    crawler(page)
    site.put("/a", article("A page", "Its text stays."), has_etag=False)
    assert str(crawler(page, days=2).sources["one"]) == "1 listed = 1 unchanged"


def test_a_page_that_is_gone_is_asked_for_ever_more_seldom(site: ChangingSite, crawler: Crawler):
    pages = source("two", "urls", urls=(site.url("/gone"), site.put("/here", article("Here", "Still here."))))
    days_asked = []
    for day in range(16):
        site.forget()
        report = crawler(pages)
        days_asked += [day] if site.counts()["/gone"] else []
        assert report.sources["two"].num_listed == 2
        waiting = report.sources["two"].waiting["back_off"]
        assert report.sources["two"].refused["http_404"] + waiting == 1
    assert days_asked == [0, 1, 3, 7, 14]


def test_a_page_said_to_be_gone_for_good_has_the_longest_pause_at_once(site: ChangingSite, crawler: Crawler):
    pages = source("two", "urls", urls=(site.url("/gone"), site.put("/here", article("Here", "Still here."))))
    site.put("/gone", "", status=410)
    crawler(pages)
    site.forget()
    crawler(pages, days=29)
    assert "/gone" not in site.counts()
    crawler(pages, days=2)
    assert site.counts()["/gone"] == 1


def test_a_page_in_another_language_is_refused_and_counted(site: ChangingSite, crawler: Crawler):
    site.put("/a", article("A", "Declared as Japanese.", language="ja"))
    site.put("/b", article("B", "English."))
    report = crawler(source("two", "urls", urls=(site.url("/a"), site.url("/b"))))
    assert str(report.sources["two"]) == "2 listed = 1 emitted + 1 refused (1 language)"


def test_two_addresses_that_lead_to_one_page_are_one_record(site: ChangingSite, crawler: Crawler):
    site.put("/new", article("Moved", "It is here now."))
    for path in ("/old", "/older"):
        site.put(path, "", status=301, headers={"Location": "/new"})
    pages = source("moved", "urls", urls=tuple(site.url(path) for path in ("/older", "/old", "/new")))
    report = crawler(pages)
    assert set(records(report)) == {"/new"}
    assert str(report.sources["moved"]) == "3 listed = 1 emitted + 2 repeated"
    again = crawler(pages)
    assert again.drop is None
    assert str(again.sources["moved"]) == "3 listed = 3 not modified"


def test_a_site_that_asks_to_be_left_alone_is_and_its_pages_wait_without_blame(site: ChangingSite, crawler: Crawler):
    paths = ("/a", "/b", "/c")
    for path in paths:
        site.put(path, "", status=429, headers={"Retry-After": "100000"})
    pages = source("busy", "urls", urls=tuple(map(site.url, paths)))
    report = crawler(pages)
    assert str(report.sources["busy"]) == "3 listed + 3 waiting (3 rate_limited)".replace("+", "=", 1)
    assert report.num_failed == 1
    assert sum(site.counts()[path] for path in paths) == 1
    for path in paths:
        site.put(path, article(path, "It is calm again."))
    assert str(crawler(pages).sources["busy"]) == "3 listed = 3 emitted"


def test_the_ledger_tells_what_was_fetched_when_on_which_terms_into_which_drop(site: ChangingSite, crawler: Crawler):
    report = crawler(*blog(site))
    lines = crawler.ledger()
    by_url = {line["url"].removeprefix(site.url("")): line for line in lines}
    assert len(lines) == 2 + 8  # two listings; every page that was asked for or forbidden, once
    queues = by_url["/posts/queues"]
    assert (queues["outcome"], queues["http_status"], queues["robots"], queues["licence"]) == (
        "emitted", 200, "allowed", LICENCE,
    )  # fmt: skip
    assert queues["drop_name"] == Path(report.drop.address).name
    assert queues["drop_sha256"] == report.drop.sha256
    assert queues["fetched_at"] == "2026-11-03T06:00:00+00:00"
    assert queues["num_bytes"] == len(site.served["/posts/queues"].body)
    secret, typo = by_url["/drafts/secret"], by_url["/papers/oen"]
    assert (secret["outcome"], secret["reason"], secret["robots"], secret["http_status"]) == (
        "refused", "robots", "forbidden", None,
    )  # fmt: skip
    assert (typo["reason"], typo["http_status"], typo["drop_name"]) == ("http_404", 404, None)
    assert by_url["/feed.xml"]["kind"] == "listing"


def test_a_page_that_made_no_record_is_asked_for_whole_the_next_time(site: ChangingSite, crawler: Crawler):
    site.put("/a", "<!DOCTYPE html><html><body></body></html>")
    page = source("one", "urls", urls=(site.url("/a"),))
    for _ in range(2):
        report = crawler(page, days=2)
        assert (report.drop, report.sources["one"].refused.total()) == (None, 1)
    assert [status for path, status in site.asked if path == "/a"] == [200, 200]
    site.put("/a", article("A", "Now it says something."))
    assert set(records(crawler(page, days=4))) == {"/a"}


def test_a_page_that_failed_for_a_while_is_not_modified_when_it_is_back(site: ChangingSite, crawler: Crawler):
    page = source("one", "urls", urls=(site.put("/a", body := article("A", "Its text stays.")),))
    crawler(page)
    site.put("/a", "", status=500)
    assert crawler(page).sources["one"].refused == {"http_500": 1}
    site.put("/a", body)
    assert str(crawler(page).sources["one"]) == "1 listed = 1 not modified"


def test_a_document_in_markdown_is_taken_as_it_is(site: ChangingSite, crawler: Crawler):
    text = "# Locks\n\nA lock is held.\n\n```python\nwith lock:\n    run()\n```\n"
    site.put("/locks.md", text, content_type="text/markdown; charset=utf-8")
    site.put("/logo.png", b"\x89PNG", content_type="image/png")
    report = crawler(source("two", "urls", urls=(site.url("/locks.md"), site.url("/logo.png"))))
    assert records(report)["/locks.md"]["content"] == text.rstrip()
    assert str(report.sources["two"]) == "2 listed = 1 emitted + 1 refused (1 content_type)"


def test_a_page_that_asks_to_be_left_out_is_and_one_that_links_its_licence_has_it_in_the_ledger(
    site: ChangingSite, crawler: Crawler
):
    licence = "https://licences.example/by/4.0"
    site.put("/meta", article("A", "Not to be indexed.", head='<meta name="robots" content="noindex, follow">'))
    site.put("/header", article("B", "Not for models."), headers={"X-Robots-Tag": "noai"})
    site.put("/open", article("C", "Free to use.", head=f'<link rel="license" href="{licence}">'))
    urls = tuple(map(site.url, ("/meta", "/header", "/open")))
    report = crawler(source("three", "urls", urls=urls))
    assert str(report.sources["three"]) == "3 listed = 1 emitted + 2 refused (2 robots_page)"
    assert records(report)["/open"]["licence_url"] == licence
    assert [line["licence_url"] for line in crawler.ledger() if line["outcome"] == "emitted"] == [licence]
