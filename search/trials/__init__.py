"""Which student comes next, and the loop that asks."""
