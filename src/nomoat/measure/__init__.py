"""What a model is worth, measured: tasks and reports."""
