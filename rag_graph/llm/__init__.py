"""The client of the LLM service."""
