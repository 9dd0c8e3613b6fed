"""Teachers: their files, their training, their logits for each image."""
