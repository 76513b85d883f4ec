"""Why data, model and loss do not fit together, in the words of whoever wrote them."""
