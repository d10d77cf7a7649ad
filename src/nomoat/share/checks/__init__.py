"""What is in a file that somebody sends, and whether it may come in. Content decides, not the name."""
