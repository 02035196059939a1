"""What to install: requests, rules, the choice, the plan."""
