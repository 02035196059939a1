"""What the commands that change an environment share, in the order in which it happens."""
