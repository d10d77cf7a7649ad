"""The KV memory and the KV cache on disk: what was computed for a prompt and need not be computed again."""
