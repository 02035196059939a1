"""`safe-install doctor`: facts about an environment, gathered once, and checks over them."""
