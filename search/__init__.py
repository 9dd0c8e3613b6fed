"""Searches and ablations: what is trained next, by whom, and what the database keeps of it."""
