"""The command line, as `semsearch` and as `python -m semsearch`."""

from semsearch.system.signals import ended_by_signals


def main() -> None:
    """Run the command line and exit with its code."""
    with ended_by_signals():
        from semsearch.cli.main import main as run
    run()


if __name__ == "__main__":
    main()
