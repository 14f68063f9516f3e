"""Errors of the training stages."""

from smartdevdigest_ops.errors import UserError


class TrainingError(UserError):
    """A training stage got data or settings that it cannot train on, or the training diverged."""
