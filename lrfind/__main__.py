"""`python -m lrfind` is the `lrfind` command."""

import sys
from pathlib import Path

if __name__ == "__main__":
    if sys.path and Path(sys.path[0] or ".").resolve() == Path.cwd():
        del sys.path[0]  # put there by -m; only --import-root may open this folder to a config
    from lrfind.cli.main import main

    main()
