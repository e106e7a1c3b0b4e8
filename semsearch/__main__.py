"""`python -m semsearch` is the command line."""

from semsearch.cli.main import main

if __name__ == "__main__":
    main()
