"""Importers: the owner's files in, documents out. One small file each; none knows rows or tokens."""
