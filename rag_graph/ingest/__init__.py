"""Documents in: parse, chunk, embed, store."""
