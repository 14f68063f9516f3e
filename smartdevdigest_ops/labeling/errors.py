"""Errors of labeling."""

from smartdevdigest_ops.errors import UserError


class LabelingError(UserError):
    """Labels cannot be read or bought."""
