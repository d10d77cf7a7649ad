"""Fused C kernels for the trainer, built once per machine; torch stands in where there is no compiler."""
