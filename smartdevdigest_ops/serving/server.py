"""The server's process: its socket, its signals, its end.

SIGTERM (or Ctrl-C): nothing more is accepted (503, and /ready says so), what was accepted is answered, then the process
ends with exit code 0. A second signal ends it without finishing.
"""

import asyncio
import functools
import logging
import sys
from pathlib import Path
from socket import AF_INET6, socket
from types import FrameType
from typing import TYPE_CHECKING

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.serving.access import open_socket, read_api_key
from smartdevdigest_ops.serving.app import create_app
from smartdevdigest_ops.serving.engine import load_engine
from smartdevdigest_ops.serving.models import current_release, fixed_model
from smartdevdigest_ops.serving.service import DigestService
from smartdevdigest_ops.settings import Settings

if TYPE_CHECKING:
    from uvicorn import Server

LOG = logging.getLogger("smartdevdigest.serving")


def serve(settings: Settings, model_dir: Path | None = None) -> None:
    """Serve `model_dir`, or the store's current release and those that follow it, until SIGTERM.

    Raises:
        UserError: there is no model, it cannot be loaded, or the address cannot be served on.
    """
    _log_to_stderr()
    serving = settings.serving
    find = fixed_model(model_dir) if model_dir else current_release(ArtifactStore(settings.store_dir))
    find()  # refuse before anything is opened
    api_key = read_api_key()
    with open_socket(serving.host, serving.port, api_key) as listening:
        service = DigestService(serving, find, functools.partial(load_engine, model=settings.model))
        asyncio.run(run_server(make_server(service, api_key), service, listening))


async def run_server(server: "Server", service: DigestService, listening: socket) -> None:
    """Answer on a socket until stopped.

    Raises:
        UserError: the first model cannot be loaded.
    """
    background = asyncio.create_task(service.run())
    answering = asyncio.create_task(server.serve([listening]))
    LOG.info("Listening on %s, loading the model.", _url(listening))
    await asyncio.wait((background, answering), return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True  # the model could not be loaded, or the server has ended already
    await answering
    service.close()
    if not background.done():
        background.cancel()
    await asyncio.gather(background, return_exceptions=True)
    if not background.cancelled() and (error := background.exception()) is not None:
        raise error


def make_server(service: DigestService, api_key: str | None) -> "Server":
    """Uvicorn around the application, with a stop that finishes what was accepted."""
    import uvicorn

    class GracefulServer(uvicorn.Server):
        _stopping: asyncio.Task[None] | None = None

        async def startup(self, sockets: list[socket] | None = None) -> None:
            self._loop = asyncio.get_running_loop()
            await super().startup(sockets)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if not self.started or self._stopping is not None:
                self.force_exit = self.should_exit = True
            else:
                self._loop.call_soon_threadsafe(self.begin_stop)

        def begin_stop(self) -> None:
            if self._stopping is None:
                LOG.info("Stopping: what was accepted is finished, nothing more is.")
                self._stopping = self._loop.create_task(self._stop())

        async def _stop(self) -> None:
            await service.stop()
            self.should_exit = True

    config = uvicorn.Config(
        create_app(service, api_key),
        # h11 bounds a request's headers (16 KiB); the faster parser does not.
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=service.settings.max_connections,
        timeout_graceful_shutdown=int(service.settings.stop_timeout_seconds),
    )
    return GracefulServer(config)


def _url(listening: socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if listening.family == AF_INET6 else f"http://{host}:{port}"


def _log_to_stderr() -> None:
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    LOG.setLevel(logging.INFO)
