"""Sentences for people in their own language. English needs nothing of this but `language`."""
