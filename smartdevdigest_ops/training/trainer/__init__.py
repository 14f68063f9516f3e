"""One deterministic, resumable run of a trainer, which M1 and M2 share."""
