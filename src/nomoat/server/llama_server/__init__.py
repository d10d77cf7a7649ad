"""llama-server's own API: completions in its form, embeddings, and what it tells of itself."""
