"""The corpus: clean, identify, filter, de-duplicate and split what the crawl brought, and freeze it for training."""
