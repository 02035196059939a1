"""safe-install: installs PyTorch extensions without breaking the environment that they extend."""

__version__ = "0.1.0"
