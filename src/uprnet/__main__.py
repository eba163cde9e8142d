"""The program: ``uprnet``, or ``python -m uprnet``."""

import sys


def run() -> None:
    """Run the command line and exit with its code, also where Ctrl-C comes before it is there."""
    try:
        from uprnet.cli import main

        code = main()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    run()
