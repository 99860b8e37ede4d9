"""`python -m gesher` is the command line."""

from gesher.cli.main import main

main()
