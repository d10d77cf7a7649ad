"""What should not be on a hub: reported, taken down, and taken down again where another hub mirrors it."""
