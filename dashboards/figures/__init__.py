"""A function from a view to a picture each, and the catalog of them."""
