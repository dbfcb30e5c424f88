"""Residency moves language-model work from an API onto a small model that you train and run."""

__version__ = "0.1.0"
