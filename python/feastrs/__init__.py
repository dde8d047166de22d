"""The hot work of a Feast feature store, done in Rust."""

from feastrs._native import __version__

__all__ = ["__version__"]
