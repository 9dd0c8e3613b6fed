"""One training: batches, steps, checkpoints, evaluation."""
