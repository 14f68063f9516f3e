"""From a source to the pages it lists: its feed, its sitemap with the sitemaps below, or its URL list.

Listings are asked for conditionally and kept as they came: what a site says is unchanged (304) is read again from the
copy, since a page can change without its listing saying so.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from urllib.parse import urlsplit

from smartdevdigest_ops.corpus.url import UrlError, canonical_url
from smartdevdigest_ops.crawl.extraction.charset import CharsetError, decode
from smartdevdigest_ops.crawl.fetching.errors import FetchError
from smartdevdigest_ops.crawl.fetching.fetch import LISTING_CONTENT_TYPES, Fetched, Fetcher
from smartdevdigest_ops.crawl.ledger import LedgerLine, add_line
from smartdevdigest_ops.crawl.listings.feeds import parse_feed
from smartdevdigest_ops.crawl.listings.listing import ListedPage, Listing, ListingError, parse_url_list
from smartdevdigest_ops.crawl.listings.sitemaps import Sitemap, parse_sitemap
from smartdevdigest_ops.crawl.runs import Run
from smartdevdigest_ops.crawl.sources import Source
from smartdevdigest_ops.crawl.state import packed, timestamp, transaction, unpacked
from smartdevdigest_ops.crawl.visits import ENTRY_FIELDS, ListedRow, add_listed
from smartdevdigest_ops.settings import CrawlSettings, resolve_path

_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True)
class _File:
    """A listing as its site gave it, now or at an earlier crawl."""

    url: str
    """After redirects: what its relative links are relative to."""
    body: bytes
    content_type: str
    charset: str | None


@dataclass
class Findings:
    """What is to be said of a source once it has been listed."""

    problems: list[str] = field(default_factory=list)
    """Listings that could not be had or read: the source has failed, though what else it lists is crawled."""
    notes: list[str] = field(default_factory=list)
    """What was read all the same, with something missing."""

    def problem(self) -> str | None:
        """All problems in one line."""
        return _told(self.problems)

    def note(self) -> str | None:
        """All notes in one line."""
        return _told(self.notes)


@dataclass(frozen=True)
class Walk:
    """Lists the sources of one run."""

    connection: sqlite3.Connection
    run: Run
    fetcher: Fetcher
    settings: CrawlSettings
    now: Callable[[], datetime]

    async def list_source(self, source: Source, source_position: int) -> Findings:
        """Note every page that the source lists; what fails is told in the findings and costs nothing else."""
        findings = Findings()
        num_listed = 0

        def add(listing: Listing) -> None:
            nonlocal num_listed
            if listing.damage:
                findings.notes.append(f"a listing is damaged, pages may be missing: {listing.damage}")
            rows = _rows(source, listing, num_listed)
            num_listed += add_listed(self.connection, source.name, source_position, rows)

        if source.kind == "sitemap":
            await self._walk_sitemaps(source, add, findings)
        elif source.urls:
            listing = Listing()
            for url in source.urls:
                listing.add(ListedPage(url))
            add(listing)
        else:
            try:
                add(await self._one_listing(source))
            except (FetchError, ListingError) as error:
                findings.problems.append(str(error))
        return findings

    async def _one_listing(self, source: Source) -> Listing:
        """The pages of a feed or URL list."""
        if source.path is not None:
            path = resolve_path(source.path)
            try:
                return await asyncio.to_thread(_url_list, _File(source.path, path.read_bytes(), "", None))
            except OSError as error:
                raise ListingError(
                    "path",
                    f"{path} could not be read: {error.strerror or error}. No page of this source is crawled; correct "
                    "its `path`.",
                ) from None
        listing: Listing = await self._read(source, str(source.url), _feed if source.kind == "feed" else _url_list)
        return listing

    async def _walk_sitemaps(self, source: Source, add: Callable[[Listing], None], findings: Findings) -> None:
        """All sitemaps below the source's, each once; of other hosts a site may list none (sitemaps.org)."""
        waiting, seen = [str(source.url)], {str(source.url)}
        hosts = {_host(str(source.url))}
        num_elsewhere = 0
        for number in range(self.settings.max_sitemaps_per_source + 1):
            if not waiting:
                break
            if number == self.settings.max_sitemaps_per_source:
                findings.notes.append(
                    f"{len(waiting)} sitemaps beyond crawl.max_sitemaps_per_source={number} were not read"
                )
                break
            try:
                sitemap: Sitemap = await self._read(source, waiting.pop(0), self._sitemap)
            except (FetchError, ListingError) as error:
                findings.problems.append(str(error))
                continue
            add(sitemap.pages)
            new = [child for child in sitemap.children if child not in seen]
            seen.update(new)
            waiting += [child for child in new if _host(child) in hosts]
            num_elsewhere += sum(_host(child) not in hosts for child in new)
        if num_elsewhere:
            findings.notes.append(
                f"{num_elsewhere} sitemaps on other hosts were not read; make them sources themselves"
            )

    def _sitemap(self, file: _File) -> Sitemap:
        return parse_sitemap(file.body, file.url, file.charset, max_bytes=self.settings.max_listing_bytes)

    async def _read(self, source: Source, url: str, parse: Callable[[_File], _Parsed]) -> _Parsed:
        """What the listing holds, from its site or, where that says nothing changed, from the copy.

        Raises:
            FetchError: it cannot be had.
            ListingError: it cannot be read; it is asked for whole the next time.
        """
        known = self.connection.execute("SELECT * FROM listings WHERE url = ?", (url,)).fetchone()
        try:
            fetched = await self.fetcher.fetch(
                url,
                etag=known["etag"] if known else None,
                last_modified=known["last_modified"] if known else None,
                validated_url=known["final_url"] if known else None,
                content_types=LISTING_CONTENT_TYPES,
                max_bytes=self.settings.max_listing_bytes,
            )
        except FetchError as error:
            self._note(source, url, None, error)
            raise
        if fetched.status == 304:
            file = _File(known["final_url"], unpacked(known["body"]), known["content_type"], known["charset"])
        else:
            file = _File(fetched.final_url, fetched.body, fetched.content_type, fetched.charset)
        try:
            parsed = await asyncio.to_thread(parse, file)
        except ListingError as error:
            self._note(source, url, fetched, error)
            raise
        self._note(source, url, fetched, None)
        return parsed

    def _note(self, source: Source, url: str, fetched: Fetched | None, error: FetchError | ListingError | None) -> None:
        """Write down what the listing answered, and keep it where it can be read."""
        outcome = "refused" if error else "not_modified" if fetched and fetched.status == 304 else "read"
        status = fetched.status if fetched else error.status if isinstance(error, FetchError) else None
        robots = fetched.robots if fetched else "forbidden" if error and error.reason == "robots" else None
        line = LedgerLine(
            run=self.run.id,
            source=source.name,
            kind="listing",
            url=url,
            fetched_at=timestamp(self.now()),
            outcome=outcome,
            licence=source.licence,
            final_url=fetched.final_url if fetched else None,
            reason=error.reason if error else None,
            detail=str(error) if error else None,
            http_status=status,
            num_bytes=len(fetched.body) if fetched else None,
            robots=robots,
        )
        with transaction(self.connection):
            add_line(self.connection, line)
            if fetched and outcome == "read":
                self.connection.execute(
                    "INSERT OR REPLACE INTO listings "
                    "(url, final_url, etag, last_modified, content_type, charset, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(url, fetched.final_url, fetched.etag, fetched.last_modified),
                        *(fetched.content_type, fetched.charset, packed(fetched.body)),
                    ),
                )
            elif fetched and error:
                self.connection.execute("DELETE FROM listings WHERE url = ?", (url,))


def _rows(source: Source, listing: Listing, num_before: int) -> Iterator[ListedRow]:
    """A row per entry of the listing, those without a usable page included."""
    for position, page in enumerate(listing, num_before):
        entry = {name: getattr(page, name) for name in ENTRY_FIELDS}
        try:
            url = canonical_url(page.url)
        except UrlError:
            yield ListedRow(position, page.url, page.url, "", {}, None, "refused", "url")
            continue
        row = ListedRow(position, url, page.url, _host(page.url), entry, page.updated)
        yield row if source.takes(page.url) else row.as_refused("excluded")
    for reason, number in listing.skipped.items():
        outcome = ("repeated", None) if reason == "repeated" else ("refused", reason)
        for _ in range(number):
            yield ListedRow(num_before, "", "", "", {}, None, *outcome)


def _feed(file: _File) -> Listing:
    return parse_feed(file.body, file.url, file.content_type, file.charset)


def _url_list(file: _File) -> Listing:
    try:
        listing = parse_url_list(decode(file.body, file.charset).text)
    except CharsetError as error:
        raise ListingError("charset", f"{file.url}: {error}. No page of this list is crawled.") from None
    if not listing and listing.skipped.total() == 0:
        raise ListingError("no_url", f"{file.url} lists no URL; needed is one a line.")
    return listing


def _host(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc.lower()


def _told(sentences: list[str]) -> str | None:
    if not sentences:
        return None
    more = f" (and {len(sentences) - 1} more like it)" if len(sentences) > 1 else ""
    return sentences[0] + more
