"""The command line: `smartdevdigest --help`. Thin: every command is one call into the packages."""

from smartdevdigest_ops.cli.command_line import main

__all__ = ["main"]
