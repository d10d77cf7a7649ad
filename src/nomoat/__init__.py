"""nomoat: run, tune, prove and share open models on an ordinary laptop, offline."""

__all__ = ["__version__"]

__version__ = "0.1.0"
