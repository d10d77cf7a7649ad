"""Parts of the training benchmarks: what is trained on, who trains, and what the machine can do."""
