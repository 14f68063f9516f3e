"""From a document to its digest: prompt, schema-guided generation, and the digests of a drop or a file."""
