"""`python -m lrfind` is the `lrfind` command."""

from lrfind.cli import main

if __name__ == "__main__":
    main()
