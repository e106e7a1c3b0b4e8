"""Build an index from a recipe or from files, as `semsearch build` does: `python scripts/build_index.py --help`."""

from __future__ import annotations

import sys

from semsearch.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "build")
    main()
