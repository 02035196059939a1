"""What is wrong with an environment, and why: facts gathered once, and checks over them."""
