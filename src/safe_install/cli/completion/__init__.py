"""Shell completion. It imports little, because each key press of Tab starts the program."""
