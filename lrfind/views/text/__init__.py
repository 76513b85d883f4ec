"""What a person reads on the terminal: a file a kind of run."""
