"""Digests over HTTP: requests are queued, batched for the model that is released, and answered with the contract."""
