"""What each command does, from a database and files to what is printed."""
