"""Errors of merging, quantizing and loading quantized models."""

from smartdevdigest_ops.errors import UserError


class QuantizationError(UserError):
    """A model cannot be quantized as the settings ask, or a quantized model cannot be read."""
