"""Fetching pages: polite to the site, guarded against what it sends.

URL -> allowed scheme, no credentials -> robots.txt of its site -> its host's turn -> checked address -> answer
 ^------------------------- redirect: from the start again -------------------------------------------'
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from smartdevdigest_ops.crawl.fetching.answer import (
    Answer,
    charset_of,
    content_type_of,
    redirect_target,
    retry_after_seconds,
)
from smartdevdigest_ops.crawl.fetching.errors import FetchError, Refused
from smartdevdigest_ops.crawl.fetching.exchange import Exchange, Wanted
from smartdevdigest_ops.crawl.fetching.guard import GuardedNetwork, Network, Resolve, check_url, resolve_name
from smartdevdigest_ops.crawl.fetching.pace import Pace
from smartdevdigest_ops.crawl.fetching.robots import MAX_ROBOTS_BYTES, MIN_ROBOTS_REDIRECTS, RobotsCache, RobotsTerms
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.settings import CrawlSettings

if TYPE_CHECKING:
    import httpx

__all__ = ["LISTING_CONTENT_TYPES", "PAGE_CONTENT_TYPES", "ContactMissing", "FetchError", "Fetched", "Fetcher"]

PAGE_CONTENT_TYPES = ("text/html", "application/xhtml+xml")
LISTING_CONTENT_TYPES = (
    *("application/rss+xml", "application/atom+xml", "application/rdf+xml", "application/feed+json"),
    *("application/xml", "text/xml", "application/json", "text/plain", "text/html"),  # what feeds are often called
    *("application/gzip", "application/x-gzip", "application/octet-stream", ""),  # sitemap.xml.gz
)
"""Feeds, sitemaps and URL lists; the empty one stands for an answer that names none."""

_RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)
# Not "timeout": who drips a page for a minute would cost a minute per try.
_RETRIED_REASONS = ("connection", "protocol", "damaged_body")
_HOST_FAILURES = ("connection", "protocol", "timeout")
_LEFT_ALONE = ("rate_limited", "host_unavailable")  # the host was not even asked
_LONGEST_PAUSE_SECONDS = 60.0


class ContactMissing(UserError):
    """Nobody is named whom a site's owner could write to."""


@dataclass(frozen=True)
class Fetched:
    """A page as its site gave it."""

    url: str
    """As asked for."""
    final_url: str
    """After redirects, without fragment."""
    status: int
    """200, or 304 with an empty body."""
    body: bytes
    """Decompressed."""
    content_type: str
    """Without parameters, in lower case; empty where the site names none."""
    charset: str | None
    """As the header declares it; it need not exist."""
    etag: str | None
    last_modified: str | None
    fetched_at: str
    """ISO 8601, UTC."""
    robots: str
    """Under which terms: "allowed", "no robots.txt (HTTP 404)", ..."""
    headers: Mapping[str, str]
    """Names in lower case; without Set-Cookie."""


class Fetcher:
    """Fetches pages; an async context manager that keeps connections, turns and robots.txt for one run.

    `allowed_networks` are let in beside `crawl.allowed_private_networks`; `resolve` looks host names up in the place of
    the system's resolver; `seed` decides the jitter of the pauses before retries.

    Raises:
        ContactMissing: crawl.contact is not set.
    """

    def __init__(
        self,
        settings: CrawlSettings,
        *,
        allowed_networks: Sequence[Network] = (),
        resolve: Resolve = resolve_name,
        seed: int = 0,
    ) -> None:
        if settings.contact is None:
            raise ContactMissing(
                "crawl.contact is not set: the owners of crawled sites could not tell who fetches their pages, nor ask "
                "for it to stop, so nothing is fetched. Set it to a page (https://...) or an e-mail address."
            )
        self._settings = settings
        self._seed = seed
        self._exchange = Exchange(
            settings, GuardedNetwork((*settings.allowed_private_networks, *allowed_networks), resolve)
        )
        self._pace = Pace(
            requests_per_second=settings.requests_per_second_per_host,
            connections_per_host=settings.connections_per_host,
            max_connections=settings.max_connections,
            max_failures=settings.max_host_failures,
        )
        self._robots = RobotsCache(self._robots_body, settings.user_agent.partition("/")[0])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exchange.close()

    async def fetch(
        self,
        url: str,
        *,
        etag: str | None = None,
        last_modified: str | None = None,
        validated_url: str | None = None,
        content_types: Sequence[str] = PAGE_CONTENT_TYPES,
        max_bytes: int | None = None,
    ) -> Fetched:
        """The page, after redirects; with status 304 and no body where `etag` or `last_modified` still hold.

        These two are sent to `validated_url` alone (default `url`): the `final_url` that they came from, since what
        they say of one page says nothing of another that a redirect may lead to by now. `max_bytes` stands in for
        crawl.max_body_bytes and crawl.max_decompressed_bytes.

        Raises:
            FetchError: the page cannot or may not be had, for the reason it names.
        """
        settings = self._settings
        validators = {"If-None-Match": etag, "If-Modified-Since": last_modified}
        wanted = Wanted(
            content_types=tuple(content_types),
            validators={name: value for name, value in validators.items() if value and value.isprintable()},
            validated_url=_normal_form(validated_url or url),
            max_body_bytes=max_bytes or settings.max_body_bytes,
            max_decompressed_bytes=max_bytes or settings.max_decompressed_bytes,
            max_redirects=settings.max_redirects,
        )
        answer, terms = await self._follow(url, wanted)
        return Fetched(
            url=url,
            final_url=answer.url,
            status=answer.status,
            body=answer.body,
            content_type=content_type_of(answer.headers),
            charset=charset_of(answer.headers),
            etag=answer.headers.get("etag"),
            last_modified=answer.headers.get("last-modified"),
            fetched_at=datetime.now(UTC).isoformat(timespec="seconds"),
            robots=terms.summary,
            headers=answer.headers,
        )

    async def _robots_body(self, url: str) -> bytes:
        wanted = Wanted(
            content_types=None,
            validators={},
            validated_url="",
            max_body_bytes=MAX_ROBOTS_BYTES,
            max_decompressed_bytes=MAX_ROBOTS_BYTES,
            max_redirects=max(self._settings.max_redirects, MIN_ROBOTS_REDIRECTS),
            for_robots=True,
        )
        answer, _ = await self._follow(url, wanted)
        return answer.body

    async def _follow(self, asked: str, wanted: Wanted) -> tuple[Answer, RobotsTerms]:
        """The first answer that is no redirect, and the terms of its site."""
        text = asked
        for _ in range(wanted.max_redirects + 1):
            try:
                url = check_url(text)
            except Refused as refused:
                # Neither the log nor the ledger gets to see a password.
                shown = "a URL" if refused.reason == "credentials" else repr(text[:200])
                _fail(refused, shown if text == asked else f"{asked}, redirected to {shown}", asked)
            terms = RobotsTerms("") if wanted.for_robots else await self._allowing_terms(url)
            answer = await self._ask(url, wanted, terms.delay_seconds)
            if not answer.is_redirect:
                return answer, terms
            try:
                text = redirect_target(url, answer)
            except Refused as refused:
                _fail(refused, str(url), asked)
        raise FetchError(
            "too_many_redirects",
            f"{asked}: {wanted.max_redirects + 1} redirects, the last to {text[:200]}, where at most "
            f"{wanted.max_redirects} (crawl.max_redirects) are followed: the site may send in circles whoever keeps no "
            "cookies. The page is left out; list the URL it ends at.",
            url=asked,
        )

    async def _allowing_terms(self, url: "httpx.URL") -> RobotsTerms:
        terms = await self._robots.terms(url)
        if not terms.allows(url):
            raise FetchError(
                "robots",
                f"{url}: the site's robots.txt forbids this address to {self._settings.user_agent}, so it is not "
                "fetched. Take it out of config/sources.yaml, or ask the site's owner.",
                url=str(url),
            )
        longest = self._settings.max_crawl_delay_seconds
        if terms.delay_seconds > longest:
            raise FetchError(
                "crawl_delay",
                f"{url}: the site's robots.txt asks for {terms.delay_seconds:g} s between requests, more than "
                f"crawl.max_crawl_delay_seconds={longest:g}. The page is left out; raise the setting to wait so long.",
                url=str(url),
            )
        return terms

    async def _ask(self, url: "httpx.URL", wanted: Wanted, delay_seconds: float) -> Answer:
        """The site's usable answer, asked for again after what may pass."""
        num_tries = self._settings.max_retries + 1
        for number in range(1, num_tries + 1):
            pause = self._pause(url, number)
            try:
                async with self._pace.turn(url.host, delay_seconds):
                    answer = await self._exchange.ask(url, wanted)
            except Refused as refused:
                if refused.reason in _RETRIED_REASONS and number < num_tries:
                    await asyncio.sleep(pause)
                    continue
                if refused.reason not in _LEFT_ALONE:
                    self._pace.note(url.host, failed=refused.reason in _HOST_FAILURES)
                _fail(refused, str(url), str(url))
            if answer.status not in _RETRIED_STATUSES:
                self._pace.note(url.host, failed=False)
                return _usable(answer)
            self._hold_host(url, answer, pause)
        self._pace.note(url.host, failed=True)
        raise FetchError(
            "rate_limited" if answer.status == 429 else f"http_{answer.status}",
            f"{url}: HTTP {answer.status}, at the last of {num_tries} tries too. The page is left for the next run.",
            url=str(url),
            status=answer.status,
        )

    def _hold_host(self, url: "httpx.URL", answer: Answer, pause: float) -> None:
        """Let all requests to the host wait for as long as it asks, or for the pause before a retry."""
        asked = retry_after_seconds(answer.headers.get("retry-after"), datetime.now(UTC))
        longest = self._settings.max_retry_after_seconds
        if asked > longest:
            self._pace.close(url.host, asked)
            raise FetchError(
                "rate_limited",
                f"{url}: HTTP {answer.status}, and the site asks to wait {asked:.0f} s, longer than "
                f"crawl.max_retry_after_seconds={longest:g}. It is left alone; its pages are left for the next run.",
                url=str(url),
                status=answer.status,
            )
        self._pace.hold(url.host, max(asked, pause))

    def _pause(self, url: "httpx.URL", number: int) -> float:
        """Seconds after try `number`: doubling, with a jitter by page and seed, so that runs can be repeated."""
        jitter = random.Random(f"{self._seed} {url} {number}").uniform(0.5, 1.5)
        return min(self._settings.retry_backoff_seconds * 2.0 ** (number - 1), _LONGEST_PAUSE_SECONDS) * jitter


def _usable(answer: Answer) -> Answer:
    if answer.status == 200 or answer.is_redirect or (answer.status == 304 and answer.was_conditional):
        return answer
    advice = "; take it from the source's list if it is gone for good" if answer.status in (404, 410) else ""
    raise FetchError(
        f"http_{answer.status}",
        f"{answer.url}: HTTP {answer.status} where 200 was needed. The page is left out{advice}.",
        url=answer.url,
        status=answer.status,
    )


def _normal_form(url: str) -> str:
    try:
        return str(check_url(url))
    except Refused:
        return url


def _fail(refused: Refused, place: str, url: str) -> NoReturn:
    raise FetchError(refused.reason, f"{place}: {refused}. The page is left out.", url=url) from None
