"""A real HTTP server on loopback that answers byte for byte as a test wants it to."""

import asyncio
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class Request:
    target: str
    headers: dict[str, str]
    at: float
    """Seconds, monotonic."""
    connection: int
    """Number of the connection it came over."""


Handler = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes = b"", status: int = 200, content_type: str | None = "text/html", **headers: str) -> bytes:
    """A well-formed answer; `retry_after="3"` becomes the header `retry-after: 3`."""
    fields = {"content-length": str(len(body))} | ({"content-type": content_type} if content_type else {})
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body


class MisbehavingServer:
    """Serves `on(path, ...)` from a thread of its own; everything else is 404, robots.txt too.

    What is served is bytes (the whole answer), a list of them (one per request, the last one for ever) or a coroutine
    function that writes what it likes; a connection is kept open unless that closes it. `greeting` goes to everybody
    who connects, before they ask.
    """

    def __init__(
        self, ssl_context: ssl.SSLContext | None = None, host: str = "127.0.0.1", greeting: bytes = b""
    ) -> None:
        self.requests: list[Request] = []
        self.num_bytes_sent = 0
        self.num_open = 0
        self.max_open = 0
        """Most requests that were being answered at a time."""
        self._host = host
        self._greeting = greeting
        self._ssl_context = ssl_context
        self._served: dict[str, bytes | list[bytes] | Handler] = {}
        self._connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def on(self, path: str, served: bytes | list[bytes] | Handler) -> str:
        """Serve this at the path from now on; returns the path's URL."""
        self._served[path] = served
        return self.url(path)

    def url(self, path: str = "/", host: str | None = None) -> str:
        scheme = "https" if self._ssl_context else "http"
        return f"{scheme}://{host or self._host}:{self.port}{path}"

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.target == path]

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> asyncio.Server:
        return await asyncio.start_server(self._talk, self._host, 0, ssl=self._ssl_context)

    async def _stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections += 1
        number = self._connections
        try:
            await self.send(writer, self._greeting)
            while not writer.is_closing():
                request = await self._read(reader, number)
                self.requests.append(request)
                self.num_open += 1
                self.max_open = max(self.max_open, self.num_open)
                try:
                    await self._answer(request, writer)
                finally:
                    self.num_open -= 1
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            with suppress(ConnectionError, RuntimeError):
                writer.close()

    async def _read(self, reader: asyncio.StreamReader, number: int) -> Request:
        first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        pairs = (line.partition(": ") for line in rest)
        headers = {name.lower(): value for name, _, value in pairs}
        return Request(first.split(" ")[1], headers, time.monotonic(), number)

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        served = self._served.get(request.target.partition("?")[0], _NOT_FOUND)
        if isinstance(served, list):
            served = served.pop(0) if len(served) > 1 else served[0]
        if isinstance(served, bytes):
            await self.send(writer, served)
        else:
            await served(request, writer)

    async def send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()
        self.num_bytes_sent += len(data)


def endlessly(server: MisbehavingServer, first: bytes, then: bytes) -> Handler:
    async def serve(request: Request, writer: asyncio.StreamWriter) -> None:
        await server.send(writer, first)
        while server.num_bytes_sent < 2**30:
            await server.send(writer, then)

    return serve


def dripping(server: MisbehavingServer, first: bytes, drip: bytes) -> Handler:
    """For 4 s, then the connection ends: who waits longer sees another failure than a timeout."""

    async def serve(request: Request, writer: asyncio.StreamWriter) -> None:
        await server.send(writer, first)
        for _ in range(200):
            await server.send(writer, drip)
            await asyncio.sleep(0.02)
        writer.close()

    return serve


def once_and_close(data: bytes) -> Handler:
    async def serve(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return serve
