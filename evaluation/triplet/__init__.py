"""Embeddings: retrieval, verification, few-shot episodes."""
