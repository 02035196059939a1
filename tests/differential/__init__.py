"""The same command lines through pip and through safe-install, in two copies of one environment."""
