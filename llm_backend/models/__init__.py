"""Model files: where weights come from, and the tokenizer that belongs to them."""
