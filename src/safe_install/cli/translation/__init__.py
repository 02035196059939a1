"""Translates sentences into the user's language. For English only `language` is loaded."""
