"""The built-in models; each is named in `lrfind.catalog`."""
