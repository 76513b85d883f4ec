"""The summary of each command, as plain data: one module for each kind of run."""
