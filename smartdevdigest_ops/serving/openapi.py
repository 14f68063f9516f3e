"""The description of the interface that `/openapi.json` gives: the contract's schemas, the limits, every status."""

from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.contracts import Digest
from smartdevdigest_ops.contracts.export import json_schema
from smartdevdigest_ops.serving.messages import BatchAnswer, ErrorAnswer
from smartdevdigest_ops.settings import ServingSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

MODEL_HEADER = "SmartDevDigest-Model"
COVERED_HEADER = "SmartDevDigest-Covered-Share"
DESCRIPTION = (
    "One JSON digest per technical document. A document is a record of the crawl contract; of an array each document "
    "gets its own digest or its own error."
)
_DOCUMENT = {"$ref": "#/components/schemas/CrawlRecord"}
_SECONDS_HEADER = {"description": "Seconds after which to send it again.", "schema": {"type": "integer", "minimum": 1}}
_RETRY_AFTER = {"Retry-After": _SECONDS_HEADER}
_MODELS_HEADER = {
    "description": "Version of the model; of an array those of all its models, where a new one came meanwhile.",
    "schema": {"type": "string"},
}
_COVERED_HEADER = {
    "description": "Of one document: the share of its content that the digest was made from; of an array each result "
    "says its own.",
    "schema": {"type": "number", "minimum": 0, "maximum": 1},
}
_MEANINGS = {
    401: "The key is missing or another.",
    408: "The body did not come in time.",
    413: "The body is too long, or holds too many documents.",
    415: "The body is not application/json, or compressed.",
    421: "Without a key, the server answers to loopback names only.",
    422: "The body is no document and no array of them, or the one document is off the contract.",
    429: "The queue is full; nothing was taken.",
    500: "The model failed on the one document.",
    503: "The model is still loading, or the server is stopping.",
    504: "There was no digest within the time limit; of an array: not one.",
}
_HEADERS = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}

Responses = dict[int | str, dict[str, Any]]


def error_responses(*statuses: int) -> Responses:
    """FastAPI's description of these errors."""
    return {
        status: {"model": ErrorAnswer, "description": _MEANINGS[status], "headers": _HEADERS.get(status, {})}
        for status in statuses
    }


def digest_responses(settings: ServingSettings) -> Responses:
    """Every answer to a request for digests, but those about who may ask."""
    success = {
        "model": Digest | BatchAnswer,
        "description": "The digest of the one document, or a result per document of the array.",
        "headers": {MODEL_HEADER: _MODELS_HEADER, COVERED_HEADER: _COVERED_HEADER},
    }
    errors = error_responses(408, 413, 415, 422, 429, 500, 503, 504)
    errors[504]["description"] += f" The limit is {settings.time_limit_seconds:g} s."
    return {200: success} | errors


def documents_body(settings: ServingSettings) -> dict[str, Any]:
    """OpenAPI's description of the body, which is read and checked document by document."""
    array = {"type": "array", "items": _DOCUMENT, "minItems": 1, "maxItems": settings.max_documents}
    return {
        "required": True,
        "description": f"At most {settings.max_body_bytes} bytes.",
        "content": {"application/json": {"schema": {"oneOf": [_DOCUMENT, array]}}},
    }


def openapi(app: "FastAPI") -> dict[str, Any]:
    """The whole description, with the crawl contract among the schemas."""
    from fastapi.openapi.utils import get_openapi

    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        record = json_schema("crawl_record")
        del record["$schema"]  # OpenAPI 3.1 has the same dialect
        schema["components"]["schemas"]["CrawlRecord"] = record
        app.openapi_schema = schema
    return app.openapi_schema
