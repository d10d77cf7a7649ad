"""Keeping a registry whole and small: backups, checks, repairs, and what nobody has a right to any more goes."""
