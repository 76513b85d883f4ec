"""What runs found, as plain data: the content of summary.json, a file for each kind of run."""
