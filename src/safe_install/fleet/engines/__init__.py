"""One module for each engine that reaches many nodes."""
