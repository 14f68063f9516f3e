"""Morphemes and sentences of both languages."""
