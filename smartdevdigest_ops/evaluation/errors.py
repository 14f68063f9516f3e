"""Errors of the evaluation."""

from smartdevdigest_ops.errors import UserError


class EvaluationError(UserError):
    """There is nothing to evaluate, or a gold file cannot be used."""
