"""What can go wrong between a request and its answer."""

from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.serving.messages import ErrorCode


class ServingError(UserError):
    """The server cannot be started, or a model cannot be served."""


class RequestError(Exception):
    """A request that is answered with an error, and how."""

    def __init__(self, status: int, code: ErrorCode, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}


class QueueFullError(RequestError):
    """The documents of a request do not fit the queue; none of them was taken."""

    def __init__(self, num_queued: int, limit: int, retry_after_seconds: int) -> None:
        super().__init__(
            429,
            "queue_full",
            f"{num_queued} of at most {limit} documents are waiting already, and this request does not fit. Nothing of "
            "it was taken; send it again after Retry-After seconds.",
            {"Retry-After": str(retry_after_seconds)},
        )
