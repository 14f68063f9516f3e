"""Base models: resolving one to a local snapshot, extending its embeddings, devices and precision."""
