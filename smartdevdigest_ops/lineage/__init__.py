"""Lineage: which documents made an artifact, and which artifacts a document made."""
