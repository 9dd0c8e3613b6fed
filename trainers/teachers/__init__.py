"""Teachers: their files, their training, what they said of each image."""
