"""Bodies, headers and times without end: what a fetch takes of them."""

import asyncio
import gzip
import tracemalloc
import zlib

import pytest
from misbehaving_server import MisbehavingServer, answer, dripping, endlessly, once_and_close
from page_fetching import PAGE, failure, fetch, make_settings

from smartdevdigest_ops.crawl.fetching.fetch import Fetched, Fetcher

MIB = 2**20


def test_an_endless_body_is_left_at_its_limit(server: MisbehavingServer) -> None:
    start = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
    url = server.on("/a", endlessly(server, start, b"x" * 65536))
    error = failure(url, make_settings(max_body_bytes=100_000))
    assert error.reason == "too_large"
    assert "100000 bytes" in str(error)
    assert server.num_bytes_sent < 64 * MIB  # what the sockets' buffers hold, of the GiB it had


def test_an_endless_body_in_chunks_is_left_at_its_limit(server: MisbehavingServer) -> None:
    start = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
    url = server.on("/a", endlessly(server, start, b"1000\r\n" + b"x" * 4096 + b"\r\n"))
    assert failure(url, make_settings(max_body_bytes=100_000)).reason == "too_large"


def one_member_bomb(num_mib: int) -> bytes:
    """A single gzip member: the same flushed block over and over."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = compressor.compress(b"") + compressor.flush(zlib.Z_FULL_FLUSH)
    block = compressor.compress(bytes(MIB)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return head + block * num_mib


@pytest.mark.parametrize("bomb", [one_member_bomb(1024), gzip.compress(bytes(MIB)) * 1024], ids=["one", "many members"])
def test_a_gzip_bomb_never_expands_in_memory(server: MisbehavingServer, bomb: bytes) -> None:
    """1 GiB in about 1 MiB, as one member and as many."""
    assert len(bomb) < 1.3 * MIB
    url = server.on("/a", answer(bomb, content_encoding="gzip"))
    settings = make_settings(max_body_bytes=4 * MIB, max_decompressed_bytes=2 * MIB)
    tracemalloc.start()
    error = failure(url, settings)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.reason == "too_large"
    assert "expands to more than 2097152 bytes" in str(error)
    assert peak_bytes < 10 * MIB


def test_a_declared_length_over_the_limit_is_not_read(server: MisbehavingServer) -> None:
    url = server.on("/a", b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 99999999\r\n\r\n")
    error = failure(url, make_settings(max_body_bytes=1000))
    assert error.reason == "too_large"
    assert "99999999" in str(error)


def test_a_listing_may_be_larger_than_a_page(server: MisbehavingServer) -> None:
    url = server.on("/a", answer(gzip.compress(bytes(5000)), content_encoding="gzip"))
    settings = make_settings(max_body_bytes=1000, max_decompressed_bytes=1000)
    assert failure(url, settings).reason == "too_large"
    assert fetch(url, settings, max_bytes=5000).body == bytes(5000)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
def test_a_gzip_body_is_expanded(server: MisbehavingServer, encoding: str) -> None:
    url = server.on("/a", answer(gzip.compress(PAGE[:9]) + gzip.compress(PAGE[9:]), content_encoding=encoding))
    assert fetch(url).body == PAGE


def test_an_encoding_nobody_asked_for_is_refused(server: MisbehavingServer) -> None:
    for encoding in ("br", "deflate", "zstd", "gzip, gzip"):
        assert failure(server.on("/a", answer(b"x", content_encoding=encoding))).reason == "content_encoding"


@pytest.mark.parametrize(
    "body", [PAGE, gzip.compress(PAGE)[:-9], gzip.compress(PAGE)[:5]], ids=["not gzip", "cut off", "header cut off"]
)
def test_a_damaged_gzip_body_is_refused_after_a_retry(server: MisbehavingServer, body: bytes) -> None:
    assert failure(server.on("/a", answer(body, content_encoding="gzip"))).reason == "damaged_body"
    assert len(server.asked("/a")) == 2


@pytest.mark.parametrize(
    "header",
    [
        b"X-Long: " + b"a" * 300_000 + b"\r\n\r\n",
        b"".join(b"X-%d: %s\r\n" % (n, b"a" * 100) for n in range(800)) + b"\r\n",
    ],
)
def test_huge_headers_are_refused(server: MisbehavingServer, header: bytes) -> None:
    error = failure(server.on("/a", once_and_close(b"HTTP/1.1 200 OK\r\n" + header)))
    assert error.reason == "headers_too_large"


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nX-Endless: ",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n1;extension=",
    ],
)
def test_a_line_without_an_end_is_refused(server: MisbehavingServer, start: bytes) -> None:
    error = failure(server.on("/a", endlessly(server, start, b"a" * 10_000)))
    assert error.reason == "headers_too_large"
    assert server.num_bytes_sent < 64 * MIB


@pytest.mark.parametrize(
    ("start", "drip"),
    [
        (b"", b"H"),  # never even a status line
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n", b""),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    ],
)
def test_a_slow_drip_ends_at_the_total_time_and_is_not_asked_again(
    server: MisbehavingServer, start: bytes, drip: bytes
) -> None:
    url = server.on("/a", dripping(server, start, drip))
    error = failure(url, make_settings(total_timeout_seconds=0.2))
    assert error.reason == "timeout"
    assert "total_timeout_seconds=0.2" in str(error)
    assert len(server.asked("/a")) == 1


def test_a_cancelled_fetch_gives_its_turn_back(server: MisbehavingServer) -> None:
    slow = server.on("/slow", dripping(server, b"", b"H"))
    quick = server.on("/quick", answer(PAGE))

    async def cancel_one() -> Fetched:
        async with Fetcher(make_settings(connections_per_host=1, max_connections=1)) as fetcher:
            task = asyncio.create_task(fetcher.fetch(slow))
            while not server.asked("/slow"):
                await asyncio.sleep(0.01)
            waiting = asyncio.create_task(fetcher.fetch(quick))
            await asyncio.sleep(0.02)
            task.cancel()
            return await waiting

    assert asyncio.run(cancel_one()).body == PAGE
