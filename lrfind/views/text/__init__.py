"""The texts on the terminal: one file for each kind of run."""
