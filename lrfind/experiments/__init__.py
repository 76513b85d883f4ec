"""What a command does between its config and its answer: which lanes run, in which order, until when."""
