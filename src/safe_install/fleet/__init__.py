"""The same verified change on many machines, or on none: nodes, phases, reports, engines."""
