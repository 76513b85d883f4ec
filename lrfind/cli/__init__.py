"""The commands of `lrfind`: each parses, calls one function, and prints."""
