"""The HTTP interface: routes, who may use them, and errors in one shape."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from smartdevdigest_ops.serving.access import is_authorized, names_loopback
from smartdevdigest_ops.serving.answering import ClientLeftError, answer
from smartdevdigest_ops.serving.errors import RequestError
from smartdevdigest_ops.serving.messages import ErrorAnswer, ErrorCode, Health, Problem, Readiness
from smartdevdigest_ops.serving.metrics import AnswerRecorder
from smartdevdigest_ops.serving.openapi import (
    DESCRIPTION,
    digest_responses,
    documents_body,
    error_responses,
    openapi,
)
from smartdevdigest_ops.serving.service import DigestService

if TYPE_CHECKING:
    from fastapi import FastAPI
    from pydantic import BaseModel
    from starlette.responses import Response

DIGEST_PATH = "/v1/digest"
# Not a status of HTTP: nginx's name in logs and metrics for a client that closed its request. Nobody receives it.
_CLIENT_CLOSED_REQUEST = 499
_CODES: dict[int, ErrorCode] = {404: "not_found", 405: "method_not_allowed"}


def create_app(service: DigestService, api_key: str | None) -> "FastAPI":
    """The application in front of `service`; the caller runs the service."""
    from fastapi import Depends, FastAPI, Request
    from fastapi.security import HTTPBearer
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
    from starlette.responses import Response

    async def refuse_other_hosts(request: Request) -> None:
        if api_key is None and not names_loopback(request.headers.get("host")):
            raise RequestError(421, "wrong_host", "Without an API key this server answers to loopback names only.")

    async def require_key(request: Request) -> None:
        if api_key is not None and not is_authorized(request.headers.get("authorization"), api_key):
            raise RequestError(
                401,
                "unauthorized",
                "Needed is the header `Authorization: Bearer KEY` with the key of this server.",
                {"WWW-Authenticate": "Bearer"},
            )

    # The scheme alone is for OpenAPI; `require_key` compares.
    with_key = [Depends(HTTPBearer(auto_error=False)), Depends(require_key)] if api_key is not None else []
    key_responses = error_responses(401) if api_key is not None else error_responses(421)
    app = FastAPI(
        title="SmartDevDigest",
        description=DESCRIPTION,
        docs_url=None,  # both pages load their scripts from elsewhere
        redoc_url=None,
        dependencies=[Depends(refuse_other_hosts)],
    )
    app.add_middleware(AnswerRecorder, metrics=service.metrics, path=DIGEST_PATH)

    @app.post(
        DIGEST_PATH,
        summary="Digest one document, or an array of them",
        dependencies=with_key,
        responses=key_responses | digest_responses(service.settings),
        openapi_extra={"requestBody": documents_body(service.settings)},
    )
    async def digest(request: Request) -> Response:
        try:
            body, headers = await answer(request, service)
        except (ClientLeftError, ClientDisconnect):
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
        return _json(200, body, headers)

    @app.get("/health", summary="Whether the process answers", responses={200: {"model": Health}})
    async def health() -> Response:
        return _json(200, Health(status="ok"))

    @app.get(
        "/ready",
        summary="Whether documents are accepted, and by which model they are digested",
        responses={status: {"model": Readiness} for status in (200, 503)},
    )
    async def ready() -> Response:
        readiness = service.readiness()
        return _json(200 if readiness.ready else 503, readiness)

    @app.get(
        "/metrics",
        summary="Prometheus metrics",
        dependencies=with_key,
        responses=key_responses | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        text, content_type = service.metrics.text()
        return Response(text, media_type=content_type)

    @app.exception_handler(RequestError)
    async def refuse(_: Request, error: RequestError) -> Response:
        return _error(error.status, error.code, error.message, error.headers)

    @app.exception_handler(HTTPException)
    async def no_such_route(_: Request, error: HTTPException) -> Response:
        return _error(error.status_code, _CODES[error.status_code], f"{error.detail}.", dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def fail(_: Request, error: Exception) -> Response:
        return _error(500, "internal", "The server failed on this request; its log has the reason.", {})

    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]
    return app


def _json(status: int, body: "BaseModel", headers: Mapping[str, str] | None = None) -> "Response":
    from starlette.responses import Response

    return Response(body.model_dump_json(), status, headers, media_type="application/json")


def _error(status: int, code: ErrorCode, message: str, headers: Mapping[str, str]) -> "Response":
    return _json(status, ErrorAnswer(error=Problem(code=code, message=message)), headers)
