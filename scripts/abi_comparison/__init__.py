"""Parts of scripts/abi_matrix.py."""
