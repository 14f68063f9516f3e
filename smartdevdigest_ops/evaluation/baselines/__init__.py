"""What needs no model."""
