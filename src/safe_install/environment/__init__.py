"""What is there: interpreter, distributions, torch, driver."""
