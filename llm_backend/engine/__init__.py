"""Continuous batching over a paged KV cache. Knows token ids only; text stays in the front end."""
