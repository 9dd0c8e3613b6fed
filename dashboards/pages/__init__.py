"""The pages and their callbacks."""
