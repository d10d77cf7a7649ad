"""Content-addressed storage: bytes by their sha256, verified when they are written and when they are read."""
