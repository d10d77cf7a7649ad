"""Everything that clients of llama-server's own API may ask for."""

from __future__ import annotations

from nomoat.server.llama_server import completion, embeddings, state, template

__all__ = ["OPERATIONS"]

OPERATIONS = (*completion.OPERATIONS, *embeddings.OPERATIONS, *template.OPERATIONS, *state.OPERATIONS)
