"""What a person reads on the terminal, made from plain results, a file for each kind of run."""
