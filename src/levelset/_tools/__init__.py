"""What the layers above share: checks, modes, batches, evaluation, norms, results, files."""
