"""The web server: what it refuses, its connections, its start and its end."""
