"""The surface: a command line in, text or JSON out."""
