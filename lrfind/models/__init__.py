"""The built-in models, each of which has a name in `lrfind.catalog`."""
