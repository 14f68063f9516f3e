"""m1_checkpoint: the base model, extended and adapted to the corpus."""
