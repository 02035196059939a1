"""Parts of scripts/gpu_check.py. Standard library only."""
