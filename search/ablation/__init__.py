"""From a TOML file to arms, and from their rows to evidence."""
