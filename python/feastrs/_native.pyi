"""The Rust core, as Python sees it: one section for each file of `src/py/`."""

__version__: str
