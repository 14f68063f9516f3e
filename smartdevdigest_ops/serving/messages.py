"""What the server answers with, beside the contract's digest."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from smartdevdigest_ops.contracts import Digest

ErrorCode = Literal[
    "unauthorized",
    "wrong_host",
    "not_found",
    "method_not_allowed",
    "body_timeout",
    "body_too_large",
    "too_many_documents",
    "wrong_content_type",
    "invalid_document",
    "invalid_body",
    "queue_full",
    "internal",
    "not_ready",
    "stopping",
    "time_limit",
]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Problem(_Message):
    """Why there is no digest."""

    code: ErrorCode = Field(description="For programs; does not change between versions of the message.")
    message: str = Field(description="For people: what was found, and what was needed.")


class ErrorAnswer(_Message):
    """The body of every answer that is an error."""

    error: Problem


class DocumentResult(_Message):
    """What came of one document of several: a digest, or an error."""

    digest: Digest | None = Field(description="The digest, or null.")
    covered_share: float | None = Field(
        ge=0, le=1, description="Share of the document's content that the digest was made from, or null without one."
    )
    error: Problem | None = Field(description="Why there is none, or null.")


class BatchAnswer(_Message):
    """What came of several documents."""

    results: list[DocumentResult] = Field(description="One per document, in their order.")


class Health(_Message):
    """The process answers."""

    status: Literal["ok"]


class ReleaseFailure(_Message):
    """A release that could not be loaded; the one before goes on serving."""

    release: str | None = Field(description="Version of its model; null where not even that could be told.")
    message: str = Field(description="One sentence; the server's log has the reason.")


class Readiness(_Message):
    """Whether documents are accepted, and by which model they are digested."""

    ready: bool
    model: str | None = Field(description="Version of the model that serves; null while the first is loading.")
    stopping: bool = Field(description="Whether the server finishes what it accepted, and then ends.")
    release_failure: ReleaseFailure | None
