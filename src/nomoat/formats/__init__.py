"""File formats of the ecosystem: GGUF, adapters, chat templates, training rows."""
