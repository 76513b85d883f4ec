"""What is trained: model, optimizer, loss, batches, randomness, and how all of it is put back."""
