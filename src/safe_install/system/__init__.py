"""The outside: one owner for each of processes, pip and HTTP."""
