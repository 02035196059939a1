"""`safe-install fleet`: one verified change on many machines, or on none of them."""
