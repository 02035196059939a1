"""What the shell offers when a person presses Tab. Imports little: each key press starts the
program anew."""
