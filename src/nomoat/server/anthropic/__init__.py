"""Anthropic's Messages API: the requests it sends and the answers it expects."""
