"""Embedding, the vector store, hybrid search."""
