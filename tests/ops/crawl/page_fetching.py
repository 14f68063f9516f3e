"""One page or several, fetched without pauses from a server on loopback."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from smartdevdigest_ops.crawl.fetching.fetch import Fetched, Fetcher, FetchError
from smartdevdigest_ops.crawl.fetching.guard import Resolve, resolve_name
from smartdevdigest_ops.settings import CrawlSettings

PAGE = "<html><body><p>본문과 code</p></body></html>".encode()


def make_settings(**changes: Any) -> CrawlSettings:
    quick = {
        "contact": "crawler@digest.example",
        "requests_per_second_per_host": 10_000,
        "retry_backoff_seconds": 0.01,
        "max_retries": 1,
        "total_timeout_seconds": 5,
        "allowed_private_networks": ["127.0.0.0/8"],
    }
    return CrawlSettings.model_validate(quick | changes)


def fetch(url: str, settings: CrawlSettings | None = None, resolve: Resolve = resolve_name, **options: Any) -> Fetched:
    async def one() -> Fetched:
        async with Fetcher(settings or make_settings(), resolve=resolve) as fetcher:
            return await fetcher.fetch(url, **options)

    return asyncio.run(one())


def fetch_all(urls: Sequence[str], settings: CrawlSettings) -> list[Fetched | FetchError]:
    """What became of each page, fetched one after the other."""

    async def every() -> list[Fetched | FetchError]:
        found: list[Fetched | FetchError] = []
        async with Fetcher(settings) as fetcher:
            for url in urls:
                try:
                    found.append(await fetcher.fetch(url))
                except FetchError as error:
                    found.append(error)
        return found

    return asyncio.run(every())


def reasons(found: Sequence[Fetched | FetchError]) -> list[str]:
    return [one.reason if isinstance(one, FetchError) else "" for one in found]


def failure(url: str, settings: CrawlSettings | None = None, **options: Any) -> FetchError:
    with pytest.raises(FetchError) as caught:
        fetch(url, settings, **options)
    return caught.value
