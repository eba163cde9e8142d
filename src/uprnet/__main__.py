"""Run the command line: ``python -m uprnet``."""

from uprnet.cli import run

run()
