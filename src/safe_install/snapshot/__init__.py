"""An environment written down: which distributions, and where exactly each file of them came from."""
