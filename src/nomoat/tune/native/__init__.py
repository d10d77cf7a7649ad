"""Fused C kernels for the trainer, built once per machine; torch's own operations stand in where there is no compiler."""
