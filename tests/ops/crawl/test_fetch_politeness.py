"""What a site sees of the crawl: its robots.txt obeyed, few requests at a time, retries that wait."""

import asyncio
import gzip
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from misbehaving_server import MisbehavingServer, Request, answer, endlessly, once_and_close
from page_fetching import PAGE, failure, fetch, fetch_all, make_settings, reasons

from smartdevdigest_ops.crawl.fetching.fetch import Fetched, Fetcher, FetchError
from smartdevdigest_ops.settings import CrawlSettings

MIB = 2**20


def test_a_forbidden_page_is_never_asked_for(server: MisbehavingServer) -> None:
    server.on(
        "/robots.txt", answer(b"User-agent: *\nDisallow: /private/\nCrawl-delay: 0.01\n", content_type="text/plain")
    )
    forbidden = server.on("/private/a", answer(PAGE))
    allowed = server.on("/a", answer(PAGE))
    first, second = fetch_all([forbidden, allowed], make_settings())
    assert isinstance(first, FetchError)
    assert first.reason == "robots"
    assert isinstance(second, Fetched)
    assert second.robots == "allowed; one request in 0.01 s"
    assert server.asked("/private/a") == []
    assert len(server.asked("/robots.txt")) == 1


def test_rules_for_a_name_inside_our_version_are_not_ours(server: MisbehavingServer) -> None:
    server.on("/robots.txt", answer(b"User-agent: nightly\nDisallow: /\n"))
    assert fetch(server.on("/a", answer(PAGE)), make_settings(user_agent="OurCrawler/nightly")).body == PAGE


def test_robots_txt_is_obeyed_behind_a_redirect_too(server: MisbehavingServer) -> None:
    with MisbehavingServer() as other:
        other.on("/robots.txt", answer(b"User-agent: *\nDisallow: /\n"))
        target = other.on("/b", answer(PAGE))
        assert failure(server.on("/a", answer(status=302, location=target))).reason == "robots"
        assert other.asked("/b") == []


def test_a_broken_robots_txt_forbids_the_site_for_now(server: MisbehavingServer) -> None:
    server.on("/robots.txt", answer(status=500))
    urls = [server.on(path, answer(PAGE)) for path in ("/a", "/b")]
    assert reasons(fetch_all(urls, make_settings())) == ["robots_unavailable"] * 2
    assert len(server.asked("/robots.txt")) == 2  # once and one retry, not per page
    assert server.asked("/a") == []


def test_of_an_endless_robots_txt_the_first_500_kib_count(server: MisbehavingServer) -> None:
    start = b"HTTP/1.1 200 OK\r\n\r\nUser-agent: *\nDisallow: /private/\n"
    server.on("/robots.txt", endlessly(server, start, b"# and so on\n" * 5000))
    urls = [server.on("/private/a", answer(PAGE)), server.on("/a", answer(PAGE))]
    assert reasons(fetch_all(urls, make_settings())) == ["robots", ""]
    assert server.num_bytes_sent < 64 * MIB


def test_a_robots_txt_that_is_a_gzip_bomb_keeps_its_first_rules(server: MisbehavingServer) -> None:
    bomb = gzip.compress(b"User-agent: *\nDisallow: /private/\n" + b"\n" * 50 * MIB)
    server.on("/robots.txt", answer(bomb, content_encoding="gzip"))
    urls = [server.on("/private/a", answer(PAGE)), server.on("/a", answer(PAGE))]
    assert reasons(fetch_all(urls, make_settings())) == ["robots", ""]


def test_a_robots_txt_on_a_private_address_opens_nothing(server: MisbehavingServer) -> None:
    server.on("/robots.txt", answer(status=302, location="http://169.254.169.254/robots.txt"))
    assert failure(server.on("/a", answer(PAGE))).reason == "private_address"
    assert server.asked("/a") == []


def test_a_crawl_delay_keeps_requests_apart(server: MisbehavingServer) -> None:
    server.on("/robots.txt", answer(b"User-agent: SmartDevDigest\nCrawl-delay: 0.15\n"))
    urls = [server.on(f"/{n}", answer(PAGE)) for n in range(3)]

    async def together() -> None:
        async with Fetcher(make_settings(connections_per_host=3)) as fetcher:
            await asyncio.gather(*(fetcher.fetch(url) for url in urls))

    begun = time.monotonic()
    asyncio.run(together())
    # What is kept apart is when requests start; on a busy machine two may arrive together, but none before its time.
    assert len(server.requests) == 4
    assert all(request.at - begun >= 0.15 * number for number, request in enumerate(server.requests))


def test_a_crawl_delay_beyond_patience_leaves_the_site_out(server: MisbehavingServer) -> None:
    server.on("/robots.txt", answer(b"User-agent: *\nCrawl-delay: 3600\n"))
    error = failure(server.on("/a", answer(PAGE)))
    assert error.reason == "crawl_delay"
    assert "crawl.max_crawl_delay_seconds" in str(error)
    assert server.asked("/a") == []


def test_a_host_sees_few_connections_at_a_time_and_all_hosts_few_together() -> None:
    async def slowly(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        writer.write(answer(PAGE))

    async def together(urls: list[str], settings: CrawlSettings) -> None:
        async with Fetcher(settings) as fetcher:
            await asyncio.gather(*(fetcher.fetch(url) for url in urls))

    with MisbehavingServer(host="0.0.0.0") as server:
        server.on("/a", slowly)
        one_host = [server.url(f"/a?{n}", host="127.0.0.1") for n in range(6)]
        asyncio.run(together(one_host, make_settings(connections_per_host=2)))
        assert server.max_open == 2
        server.max_open = 0
        hosts = [server.url("/a", host=f"127.0.0.{n}") for n in range(1, 9)]
        asyncio.run(together(hosts, make_settings(max_connections=3)))
        assert server.max_open == 3


def test_503_then_success_is_a_page(server: MisbehavingServer) -> None:
    url = server.on("/a", [answer(status=503), answer(status=502), answer(PAGE)])
    assert fetch(url, make_settings(max_retries=2)).body == PAGE
    assert len(server.asked("/a")) == 3


def test_a_lost_connection_is_tried_again(server: MisbehavingServer) -> None:
    async def cut(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.close() if len(server.asked("/a")) < 3 else writer.write(answer(PAGE))

    assert fetch(server.on("/a", cut), make_settings(max_retries=2)).body == PAGE


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451, 501, 204, 206])
def test_what_another_try_will_not_change_is_asked_once(server: MisbehavingServer, status: int) -> None:
    error = failure(server.on("/a", answer(PAGE if status == 206 else b"", status=status)))
    assert (error.reason, error.status) == (f"http_{status}", status)
    assert len(server.asked("/a")) == 1


def test_retry_after_is_waited_for_by_all_requests_to_the_host(server: MisbehavingServer) -> None:
    first = server.on("/a", [answer(status=429, retry_after="1"), answer(PAGE)])
    second = server.on("/b", answer(PAGE))

    async def together() -> list[Fetched]:
        async with Fetcher(make_settings(connections_per_host=1)) as fetcher:
            return await asyncio.gather(fetcher.fetch(first), fetcher.fetch(second))

    assert [page.body for page in asyncio.run(together())] == [PAGE, PAGE]
    refused_at = server.asked("/a")[0].at
    assert all(request.at - refused_at > 0.99 for request in [server.asked("/a")[1], *server.asked("/b")])


@pytest.mark.parametrize("in_words", [False, True])
def test_a_retry_after_beyond_patience_leaves_the_host_alone(server: MisbehavingServer, in_words: bool) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    first = server.on("/a", answer(status=429, retry_after=later if in_words else "3600"))
    found = fetch_all([first, server.on("/b", answer(PAGE))], make_settings())
    assert reasons(found) == ["rate_limited", "rate_limited"]
    assert "next run" in str(found[0])
    assert len(server.asked("/a")) == 1
    assert server.asked("/b") == []


def test_too_many_requests_to_the_last_try_is_rate_limited(server: MisbehavingServer) -> None:
    error = failure(server.on("/a", answer(status=429, retry_after="0")))
    assert (error.reason, error.status) == ("rate_limited", 429)
    assert len(server.asked("/a")) == 2


def test_a_host_whose_pages_fail_one_after_the_other_is_left_alone(server: MisbehavingServer) -> None:
    urls = [server.on(f"/{n}", once_and_close(b"")) for n in range(4)]
    settings = make_settings(max_host_failures=2, max_retries=0)
    assert reasons(fetch_all(urls, settings)) == ["protocol", "protocol", "host_unavailable", "host_unavailable"]
    assert server.asked("/2") == []


def test_a_page_that_is_not_there_is_no_failure_of_its_host(server: MisbehavingServer) -> None:
    urls = [server.url(f"/{n}") for n in range(4)]
    assert reasons(fetch_all(urls, make_settings(max_host_failures=2))) == ["http_404"] * 4


def test_pauses_before_retries_grow_and_differ_by_page_but_not_by_run() -> None:
    import httpx

    def pauses(url: str, seed: int) -> list[float]:
        fetcher = Fetcher(make_settings(retry_backoff_seconds=1), seed=seed)
        return [fetcher._pause(httpx.URL(url), number) for number in (1, 2, 3, 40)]

    once = pauses("https://a.example/1", 17)
    assert once == pauses("https://a.example/1", 17)
    assert once != pauses("https://a.example/1", 18)
    assert once != pauses("https://a.example/2", 17)
    for pause, base in zip(once, (1, 2, 4, 60), strict=True):
        assert 0.5 * base <= pause <= 1.5 * base
