"""Random sequences of changes, kills, copies, another installer and hostile wheels in a real
environment."""
