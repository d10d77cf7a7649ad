"""Tokens in, tokens out: the engine in its worker process."""
