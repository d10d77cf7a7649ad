"""Ollama's API: chat, generate, embeddings and what is installed."""
