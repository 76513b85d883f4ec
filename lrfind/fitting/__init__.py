"""Whether data, model, loss and optimizer fit together, and why not, in the words of whoever wrote them."""
