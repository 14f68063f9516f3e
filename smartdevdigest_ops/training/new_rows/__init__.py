"""Embedding rows of new tokens, fitted before M1 trains anything."""
