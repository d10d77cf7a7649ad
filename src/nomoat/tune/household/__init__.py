"""The sample of the tour: an invented household, as data and as files like anybody's own."""
