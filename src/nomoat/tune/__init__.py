"""From own text to a proven LoRA adapter, trained on the packed weights that will serve it."""
