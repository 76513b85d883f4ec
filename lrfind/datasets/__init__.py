"""The built-in data sets, each of which has a name in `lrfind.catalog`."""
