"""The domain tokenizer: further merges of the base tokenizer's BPE, learned on the corpus."""
