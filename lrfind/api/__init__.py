"""The Python API: `find` and `range_test` for a training of your own."""
