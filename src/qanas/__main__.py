"""``python -m qanas``: the command line, where no console script is on the path."""

from qanas.cli import main

if __name__ == "__main__":
    main()
