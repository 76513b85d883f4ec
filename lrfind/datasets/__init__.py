"""The built-in data sets; each is named in `lrfind.catalog`."""
