"""All that is printed: for people, as JSON, as Markdown. Decides nothing."""
