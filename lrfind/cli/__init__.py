"""The commands of `lrfind`: each parses its options, calls one function, and prints."""
