"""Speculation without a draft model: guesses from text already seen, and how many of them pay."""
