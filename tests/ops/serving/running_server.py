"""A real server on loopback in a thread of its own, and clients of it."""

import asyncio
import functools
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.digesting.model import Digester, DigestOutcome, load_digester
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.serving.access import open_socket
from smartdevdigest_ops.serving.engine import Engine
from smartdevdigest_ops.serving.models import FindModel, fixed_model
from smartdevdigest_ops.serving.server import make_server, run_server
from smartdevdigest_ops.serving.service import DigestService
from smartdevdigest_ops.settings import ServingSettings

load_tiny = functools.partial(load_digester, device="cpu", precision="float32", threads=1)


class GatedEngine:
    """The real digester behind a gate that the test opens, batch by batch."""

    def __init__(self, digester: Digester) -> None:
        self.settings = digester.settings
        self._digester = digester
        self._gate = threading.Semaphore(0)
        self.waiting = threading.Semaphore(0)
        """Released once per batch that stands at the gate."""

    def digest(
        self, documents: Sequence[CrawlRecord], *, on_step: Callable[[int], None] | None = None
    ) -> Iterator[DigestOutcome]:
        self.waiting.release()
        assert self._gate.acquire(timeout=60)
        return self._digester.digest(documents, on_step=on_step)

    def let_pass(self, batches: int = 1) -> None:
        self._gate.release(batches)

    def await_batch(self) -> None:
        """Return when the next batch stands at the gate."""
        assert self.waiting.acquire(timeout=60)


class RunningServer:
    """A server in a thread of its own."""

    def __init__(self, service: DigestService, api_key: str | None = None) -> None:
        self.service = service
        self.server = make_server(service, api_key)
        self.error: UserError | None = None
        self._socket = open_socket("127.0.0.1", 0, api_key)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=120)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            asyncio.run(run_server(self.server, self.service, self._socket))
        except UserError as error:
            self.error = error

    def digest(self, body: Any, **options: Any) -> httpx.Response:
        headers = {"Content-Type": "application/json"}
        return self.client.post("/v1/digest", content=json.dumps(body).encode(), headers=headers, **options)

    def metric(self, name: str, **labels: str) -> float:
        text = self.client.get("/metrics").raise_for_status().text
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
        return sum(
            s.value for s in samples if s.name == f"smartdevdigest_{name}" and labels.items() <= s.labels.items()
        )

    def await_metric(self, name: str, value: float, **labels: str) -> None:
        eventually(lambda: self.metric(name, **labels) == value)

    def await_ready(self) -> None:
        eventually(lambda: self.client.get("/ready").status_code == 200)

    def signal(self) -> None:
        """What the process does on SIGTERM."""
        self.server.handle_exit(signal.SIGTERM, None)

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()

    def close(self) -> None:
        self.client.close()
        if self._thread.is_alive():
            self.signal()
        self.join()
        self._socket.close()


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds, which another thread brings about."""
    for _ in range(6000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("It never came to hold.")


class Starter:
    """Starts servers that end with the test."""

    def __init__(self, stack: ExitStack, model_dir: Path, digester: Digester) -> None:
        self._stack = stack
        self._model_dir = model_dir
        self._digester = digester

    def __call__(
        self,
        engine: Engine | None = None,
        *,
        find: FindModel | None = None,
        api_key: str | None = None,
        wait: bool = True,
        **settings: Any,
    ) -> RunningServer:
        load = load_tiny if find else lambda _: engine or self._digester
        service = DigestService(ServingSettings(**settings), find or fixed_model(self._model_dir), load)
        server = RunningServer(service, api_key)
        self._stack.callback(server.close)
        if wait:
            server.await_ready()
        return server


class LeavingClient:
    """A client that sends a document and closes its connection before the answer."""

    def __init__(self, server: RunningServer, document: Any) -> None:
        body = json.dumps(document).encode()
        head = f"POST /v1/digest HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        self._connection = socket.create_connection(("127.0.0.1", server.port))
        self._connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)

    def leave(self) -> None:
        self._connection.close()
