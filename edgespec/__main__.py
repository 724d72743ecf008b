"""`python -m edgespec`: the command line."""

from edgespec.cli.main import main

main()
