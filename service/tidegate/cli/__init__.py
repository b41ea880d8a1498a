"""The `tidegate` command.

Importing it is cheap: a command's module, and the libraries that it stands on, are imported when the
command is called.
"""

from tidegate.cli.root import main

__all__ = ["main"]
