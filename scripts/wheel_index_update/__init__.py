"""Parts of scripts/update_wheel_index.py."""
