"""The HTTP server: every protocol translates to and from one neutral layer, `answers`."""
