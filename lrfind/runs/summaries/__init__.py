"""What each command's summary says, as plain data: a file a kind of run."""
