"""The version of the package, alone so that all may import it."""

__version__ = "0.2.0"
