"""Fetching from a real server on loopback: what it gives, and what is no page."""

import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from misbehaving_server import MisbehavingServer, answer, once_and_close
from page_fetching import PAGE, failure, fetch, fetch_all, make_settings

from smartdevdigest_ops.crawl.fetching.fetch import LISTING_CONTENT_TYPES, ContactMissing, Fetched, Fetcher
from smartdevdigest_ops.settings import CrawlSettings


def test_a_page_comes_back_with_what_its_site_said_of_it(server: MisbehavingServer) -> None:
    headers = {"etag": '"v1"', "last-modified": "Mon, 05 Oct 2026 09:00:00 GMT", "x_robots_tag": "noarchive"}
    url = server.on("/a", answer(PAGE, content_type="Text/HTML; Charset=EUC-KR", **headers))
    page = fetch(f"{url}?q=1#part")
    assert page.body == PAGE
    assert (page.url, page.final_url, page.status) == (f"{url}?q=1#part", f"{url}?q=1", 200)
    assert (page.content_type, page.charset) == ("text/html", "EUC-KR")
    assert (page.etag, page.last_modified) == ('"v1"', "Mon, 05 Oct 2026 09:00:00 GMT")
    assert page.robots == "no robots.txt (HTTP 404)"
    assert page.headers["x-robots-tag"] == "noarchive"
    assert datetime.fromisoformat(page.fetched_at).tzinfo == UTC


def test_the_user_agent_says_who_crawls_and_how_to_reach_them(server: MisbehavingServer) -> None:
    fetch(server.on("/a", answer(PAGE)))
    for request in server.requests:  # robots.txt too
        assert request.headers["user-agent"] == "SmartDevDigest/0.1 (+crawler@digest.example)"
        assert request.headers["accept-encoding"] == "gzip"
        assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert server.asked("/a")[0].headers["accept"] == "text/html, application/xhtml+xml, */*;q=0.1"


def test_nobody_crawls_without_a_contact() -> None:
    with pytest.raises(ContactMissing, match=r"crawl\.contact"):
        Fetcher(CrawlSettings())


def test_cookies_proxies_and_passwords_of_the_environment_stay_out(
    server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password geheim\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with MisbehavingServer() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url())
        urls = [server.on(path, answer(PAGE, set_cookie="session=1")) for path in ("/a", "/b")]
        first, second = fetch_all(urls, make_settings())
    assert proxy.requests == []
    assert isinstance(first, Fetched)
    assert isinstance(second, Fetched)
    assert "set-cookie" not in first.headers
    assert not any({"cookie", "authorization"} & set(request.headers) for request in server.requests)


def test_pages_of_one_site_share_a_connection(server: MisbehavingServer) -> None:
    fetch_all([server.on(f"/{n}", answer(PAGE)) for n in range(4)], make_settings())
    assert {request.connection for request in server.asked("/1") + server.asked("/3")} == {
        server.asked("/0")[0].connection
    }


def test_an_unchanged_page_is_304_without_a_body(server: MisbehavingServer) -> None:
    url = server.on("/a", b'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\n\r\n')
    page = fetch(url, etag='"v1"', last_modified="Mon, 05 Oct 2026 09:00:00 GMT")
    assert (page.status, page.body, page.etag) == (304, b"", '"v1"')
    request = server.asked("/a")[0]
    assert request.headers["if-none-match"] == '"v1"'
    assert request.headers["if-modified-since"] == "Mon, 05 Oct 2026 09:00:00 GMT"


def test_a_304_that_was_not_asked_for_is_no_page(server: MisbehavingServer) -> None:
    assert failure(server.on("/a", b"HTTP/1.1 304 Not Modified\r\n\r\n")).reason == "http_304"


def test_validators_go_to_the_page_they_came_from_alone(server: MisbehavingServer) -> None:
    old = server.on("/old", answer(status=301, location="/new"))
    new = server.on("/new", answer(PAGE))
    fetch(old, etag='"v1"')
    assert "if-none-match" not in server.asked("/new")[0].headers
    fetch(old, etag='"v1"', validated_url=new)
    assert "if-none-match" not in server.asked("/old")[1].headers
    assert server.asked("/new")[1].headers["if-none-match"] == '"v1"'


def test_an_etag_outside_ascii_goes_back_as_it_came(server: MisbehavingServer) -> None:
    url = server.on("/a", answer(PAGE, etag='"판1"'))
    etag = fetch(url).etag
    assert etag == '"판1"'
    fetch(url, etag=etag)
    assert server.asked("/a")[1].headers["if-none-match"].encode("latin-1") == '"판1"'.encode()


@pytest.mark.parametrize(
    ("content_type", "accepted"),
    [
        ("text/html; charset=utf-8", True),
        ("application/xhtml+xml", True),
        ("application/pdf", False),
        ("image/png", False),
        (None, False),
    ],
)
def test_only_the_content_types_asked_for_are_read(
    server: MisbehavingServer, content_type: str | None, accepted: bool
) -> None:
    url = server.on("/a", answer(PAGE, content_type=content_type))
    if accepted:
        assert fetch(url).body == PAGE
    else:
        assert failure(url).reason == "content_type"


@pytest.mark.parametrize("content_type", ["application/rss+xml", "text/xml", "application/x-gzip", None])
def test_listings_come_under_many_content_types(server: MisbehavingServer, content_type: str | None) -> None:
    url = server.on("/feed", answer(b"<rss/>", content_type=content_type))
    assert fetch(url, content_types=LISTING_CONTENT_TYPES).body == b"<rss/>"


def test_a_wrong_character_set_is_handed_on_with_the_bytes_untouched(server: MisbehavingServer) -> None:
    page = fetch(server.on("/a", answer(PAGE, content_type="text/html; charset=utf8mb4-nonsense")))
    assert (page.charset, page.body) == ("utf8mb4-nonsense", PAGE)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 500\r\n\r\n" + PAGE,
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabcde\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x00\x01\x02\x03" * 100,
        b"",
    ],
)
def test_an_answer_that_is_cut_off_or_no_http_is_no_page(server: MisbehavingServer, data: bytes) -> None:
    error = failure(server.on("/a", once_and_close(data)))
    assert error.reason == "protocol"
    assert len(server.asked("/a")) == 2


def test_a_length_that_is_too_short_does_not_spill_into_the_next_page(server: MisbehavingServer) -> None:
    short = server.on("/a", b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\n" + PAGE)
    first, second = fetch_all([short, server.on("/b", answer(PAGE))], make_settings())
    assert isinstance(first, Fetched)
    assert isinstance(second, Fetched)
    assert (first.body, second.body) == (PAGE[:3], PAGE)


def test_nobody_there_is_a_failed_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert failure(f"http://127.0.0.1:{port}/").reason == "connection"


def test_a_name_that_does_not_exist_is_told_from_a_name_server_that_does_not_answer() -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def unreachable(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    assert failure("http://gone.example/", resolve=unknown).reason == "name"
    assert failure("http://gone.example/", resolve=unreachable).reason == "connection"
