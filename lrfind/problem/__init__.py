"""What is trained: model, optimizer, loss, batches and randomness, and how all of it is restored."""
