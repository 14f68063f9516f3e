"""What exists: the Dagster code location. How things are made is in `smartdevdigest_ops`."""
