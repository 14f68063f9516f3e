"""What the commands share: how one is added, and how paths and numbers are said and read."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXIT_FAILED = 1
"""Something asked for failed; bad input is `UserError.exit_code`."""

Command = Callable[[argparse.Namespace], int]
"""Does what was asked for; returns the exit code."""


class Commands:
    """The subcommands of a parser, each with the options that all of them have."""

    def __init__(self, parser: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
        self._parsers: Any = parser.add_subparsers(required=True, metavar="COMMAND")
        self._shared = shared

    def add(self, name: str, what: str, command: Command) -> argparse.ArgumentParser:
        """Parser of a new command, for its own arguments."""
        parser: argparse.ArgumentParser = self._parsers.add_parser(
            name, parents=[self._shared], help=what, description=f"{what[0].upper()}{what[1:]}."
        )
        parser.set_defaults(command=command)
        return parser


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """A number above 0, for argparse."""

    def number(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    return number


def relative(path: Path) -> Path:
    """The path as a reader at the prompt would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
