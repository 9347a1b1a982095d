"""Retrieval, ingestion and the LangGraph orchestration, as a plain async library."""
