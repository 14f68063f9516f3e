"""Merge the adapter into the model, quantize it with GPTQ, and load the result."""
