"""Who vouches for what: keys, signatures over files, and signed statements of how something was made."""
