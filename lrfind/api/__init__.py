"""The Python API: `find`, `range_test`, `grid` and `compare` for a training of your own."""
