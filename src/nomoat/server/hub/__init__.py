"""A hub's HTTP: what Hugging Face's clients speak, what only this hub says, and its pages."""
