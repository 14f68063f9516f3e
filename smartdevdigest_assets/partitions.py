"""Partitions: one per drop, never per document (Dagster's ceiling is near 100,000 partitions)."""

import dagster as dg

# Key: the first 16 hex digits of the SHA-256 of the drop file, so the same content is one partition under any name.
DROPS = dg.DynamicPartitionsDefinition(name="drops")
