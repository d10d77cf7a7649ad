"""Everything that Ollama's clients may ask for."""

from __future__ import annotations

from nomoat.server.ollama import catalogue, embeddings, generation

__all__ = ["OPERATIONS"]

OPERATIONS = (*generation.OPERATIONS, *embeddings.OPERATIONS, *catalogue.OPERATIONS)
