"""Making weights: data, losses and the training loop."""
