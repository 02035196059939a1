"""What is known about where wheels live."""
