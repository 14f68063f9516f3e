"""m2_adapter: the adapter that answers with the digest."""
