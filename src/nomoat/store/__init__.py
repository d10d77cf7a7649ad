"""The local model store: names, digests, the embedded default."""
