"""How one student is trained and scored, and the teachers that it learns from."""
