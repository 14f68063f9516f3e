"""M1 (domain adaptation) and M2 (the digest adapter): packing, the shared trainer, and the two stages."""
