"""Where a fetch is led by redirects and names, and where it does not go."""

import asyncio
import ipaddress

import pytest
from misbehaving_server import MisbehavingServer, answer, once_and_close
from page_fetching import PAGE, failure, fetch, make_settings

from smartdevdigest_ops.crawl.fetching.fetch import Fetched, Fetcher


def test_a_redirect_is_followed_to_its_end(server: MisbehavingServer) -> None:
    first = server.on("/a", answer(status=302, location="/b?x=1#top"))
    server.on("/b", answer(PAGE))
    page = fetch(first)
    assert (page.url, page.final_url, page.body) == (first, server.url("/b?x=1"), PAGE)


def test_a_redirect_loop_ends_at_the_limit(server: MisbehavingServer) -> None:
    server.on("/b", answer(status=302, location="/a"))
    error = failure(server.on("/a", answer(status=301, location="/b")), make_settings(max_redirects=3))
    assert error.reason == "too_many_redirects"
    assert "crawl.max_redirects" in str(error)
    assert len(server.asked("/a") + server.asked("/b")) == 4


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://169.254.169.254/latest/meta-data/iam/", "private_address"),
        ("http://[fd00:ec2::254]/latest/", "private_address"),
        ("http://[::ffff:169.254.169.254]/latest/", "private_address"),
        ("http://0xa9fea9fe/latest/", "private_address"),
        ("http://10.0.0.1:8080/", "private_address"),
        ("file:///etc/passwd", "scheme"),
        ("ftp://example.org/x", "scheme"),
        ("http://user:geheim@example.org/", "credentials"),
        ("http://[broken/", "url"),
        ("", "redirect"),
    ],
)
def test_a_redirect_leads_nowhere_a_url_may_not(server: MisbehavingServer, location: str, reason: str) -> None:
    error = failure(server.on("/a", answer(status=302, location=location)))
    assert error.reason == reason
    assert "geheim" not in str(error)


def test_a_name_that_moves_to_the_metadata_service_is_refused_at_its_next_connection(
    server: MisbehavingServer,
) -> None:
    addresses = ["127.0.0.1", "169.254.169.254"]

    async def resolve(host: str, port: int) -> list[str]:
        return [addresses.pop(0)]

    server.on("/robots.txt", once_and_close(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n"))
    server.on("/a", answer(PAGE))
    error = failure(server.url("/a", host="rebinding.example"), resolve=resolve)
    assert error.reason == "private_address"
    assert addresses == []
    assert server.asked("/a") == []


def test_loopback_is_refused_unless_it_is_allowed(server: MisbehavingServer) -> None:
    url = server.on("/a", answer(PAGE))
    error = failure(url, make_settings(allowed_private_networks=[]))
    assert error.reason == "private_address"
    assert server.requests == []

    async def allowed() -> Fetched:
        networks = [ipaddress.IPv4Network("127.0.0.1/32")]
        async with Fetcher(make_settings(allowed_private_networks=[]), allowed_networks=networks) as fetcher:
            return await fetcher.fetch(url)

    assert asyncio.run(allowed()).body == PAGE


@pytest.mark.parametrize(
    ("url", "reason"),
    [("file:///etc/passwd", "scheme"), ("http://me:geheim@127.0.0.1/", "credentials"), ("", "scheme")],
)
def test_what_is_no_page_is_refused_before_any_connection(url: str, reason: str) -> None:
    error = failure(url)
    assert error.reason == reason
    assert "geheim" not in str(error)
