"""The outside world: processes, pip, HTTP and files, each used by one module only."""
