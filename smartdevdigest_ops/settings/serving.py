"""How digests are served over HTTP."""

from typing import Self

from pydantic import Field, model_validator

from smartdevdigest_ops.settings.section import Section


class ServingSettings(Section):
    """`smartdevdigest serve`: where it listens, what it accepts, how long things may take."""

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to listen on; one that is not loopback needs an API key in SMARTDEVDIGEST_API_KEY.",
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: one that is free.")
    batch_size: int | None = Field(
        None, gt=0, description="Most documents of one batch; null: digesting.batch_size of the served model."
    )
    batch_wait_seconds: float = Field(
        0.01, ge=0, description="A batch that is not full waits so long for more documents before it starts."
    )

    max_body_bytes: int = Field(4 * 2**20, gt=0, description="Bytes of a request's body.")
    max_documents: int = Field(64, gt=0, description="Documents of one request.")
    max_queued_documents: int = Field(
        256, gt=0, description="Documents of all requests that wait for a batch; more are answered with 429."
    )
    max_connections: int = Field(
        1024, gt=0, description="Connections at a time, health checks included; more are answered with 503."
    )

    body_timeout_seconds: float = Field(30.0, gt=0, description="From a request's headers to the end of its body.")
    time_limit_seconds: float = Field(
        120.0, gt=0, description="From an accepted request to its answer, waiting for a batch included."
    )
    stop_timeout_seconds: float = Field(
        150.0, gt=0, description="After SIGTERM, what was accepted gets so long to finish; the rest is cut off."
    )
    reload_seconds: float = Field(5.0, gt=0, description="Pause between looks at the store for another release.")

    @model_validator(mode="after")
    def _the_largest_request_fits_the_queue(self) -> Self:
        if self.max_documents > self.max_queued_documents:
            raise ValueError(
                f"max_documents={self.max_documents} exceeds max_queued_documents={self.max_queued_documents}: a "
                "request of so many would be answered with 429 for ever. Raise the one or lower the other."
            )
        return self

    @model_validator(mode="after")
    def _accepted_requests_outlive_the_stop(self) -> Self:
        if self.stop_timeout_seconds < self.time_limit_seconds:
            raise ValueError(
                f"stop_timeout_seconds={self.stop_timeout_seconds} is below time_limit_seconds="
                f"{self.time_limit_seconds}: a stop would cut off requests that were accepted and had time left. "
                "Raise the one or lower the other."
            )
        return self
