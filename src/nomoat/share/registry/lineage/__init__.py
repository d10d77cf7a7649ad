"""Where a commit comes from: what it was made from, and whose signature vouches for it."""
