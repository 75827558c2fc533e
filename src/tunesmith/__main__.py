"""`python -m tunesmith` is the command line."""

from tunesmith.cli import run_from_shell

run_from_shell()
