"""The pages, and what happens on them."""
