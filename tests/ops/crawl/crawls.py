"""Whole crawls of a site on loopback, a day apart."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from changing_site import ChangingSite, article, feed, loopback_settings, sitemap, source

from smartdevdigest_ops.crawl.crawl import crawl
from smartdevdigest_ops.crawl.ledger import ledger_lines
from smartdevdigest_ops.crawl.report import CrawlReport
from smartdevdigest_ops.crawl.sources import Source

MORNING = datetime(2026, 11, 2, 6, 0, tzinfo=UTC)


class Crawler:
    """Crawls into `<directory>/incoming`, a day after the crawl before."""

    def __init__(self, directory: Path) -> None:
        self.incoming = directory / "incoming"
        self.state = directory / "crawl" / "state.sqlite"
        self.clock = MORNING

    def __call__(self, *sources: Source, days: float = 1, **settings: object) -> CrawlReport:
        self.clock += timedelta(days=days)
        return crawl(loopback_settings(**settings), sources, str(self.incoming), self.state, now=lambda: self.clock)

    def ledger(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in ledger_lines(self.state)]


def records(report: CrawlReport) -> dict[str, dict[str, Any]]:
    """The drop's records by path."""
    assert report.drop is not None
    lines = gzip.decompress(Path(report.drop.address).read_bytes()).splitlines()
    found = [json.loads(line) for line in lines]
    assert len(found) == report.drop.num_records
    return {"/" + record["url"].split("/", 3)[3]: record for record in found}


def blog(site: ChangingSite) -> tuple[Source, Source, Source]:
    """A feed of two posts, a sitemap of five pages (one a post of the feed), and a list of two (one a typo)."""
    site.put("/robots.txt", "User-agent: *\nDisallow: /drafts/\n", content_type="text/plain")
    site.put("/posts/queues", article("Queues without locks", "A queue is a promise."))
    site.put("/posts/caches", article("Caches that forget", "A cache may forget."))
    site.put("/docs/install", article("Installing", "Installing takes a minute."))
    site.put("/docs/ko", article("설치", "설치에는 몇 분이 걸립니다. 먼저 저장소를 내려받으십시오.", language="ko"))
    site.put("/docs/plain", article("Plain", "This page has no validators."), has_etag=False)
    site.put("/drafts/secret", article("Secret", "Nobody should read this."))
    site.put("/papers/one", article("On jobs", "We study jobs."))
    posts = ({"path": "/posts/queues"}, {"path": "/posts/caches"})
    pages = ("/docs/install", "/docs/ko", "/docs/plain", "/posts/caches?utm_source=sitemap", "/drafts/secret")
    return (
        source("posts", "feed", site.put("/feed.xml", feed(site, *posts), content_type="application/rss+xml")),
        source("docs", "sitemap", site.put("/sitemap.xml", sitemap(site, *pages), content_type="text/xml")),
        source("papers", "urls", urls=(site.url("/papers/one"), site.url("/papers/oen")), source_type="paper"),
    )
