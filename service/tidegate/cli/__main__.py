"""`python -m tidegate.cli`: the command where it is not on the path."""

from tidegate.cli.root import main

main()
