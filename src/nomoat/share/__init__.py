"""Sharing models: the registry that a hub serves, and the clients that pull from one and push to it."""
