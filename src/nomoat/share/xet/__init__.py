"""Xet: large files as chunks that content itself delimits, so that a changed file travels as its changed chunks.

Source: the Xet protocol specification, version 1.1 (huggingface.co/docs/xet).
"""
