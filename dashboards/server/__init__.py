"""The server: who may ask what, and how it begins and ends."""
