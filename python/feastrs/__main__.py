"""``python -m feastrs``: the same as the command ``feastrs``."""

from feastrs.cli import main

if __name__ == "__main__":
    main()
