"""What can go wrong between a document and its digest."""

from smartdevdigest_ops.errors import UserError


class DigestingError(UserError):
    """A model directory or a setting that no digest can be made with."""


class GenerationError(UserError):
    """The model computed something that no answer can be read from (NaN, or tokens outside its own vocabulary)."""
