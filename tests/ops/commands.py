"""`smartdevdigest` with some arguments: as a user at the prompt runs it, or here, where its imports are paid once."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from unittest import mock

from smartdevdigest_ops.cli import main


@dataclass(frozen=True)
class Ended:
    """What a command left."""

    code: int
    printed: str
    said: str
    """On standard error."""


def at_the_prompt(*arguments: str, environment: Mapping[str, str] | None = None) -> Ended:
    """A process of its own, with these variables more than this one has."""
    ended = subprocess.run(
        [sys.executable, "-m", "smartdevdigest_ops.cli", *arguments],
        capture_output=True, text=True, check=False, env=os.environ | (environment or {}), stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert "Traceback" not in ended.stderr
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def in_this_process(*arguments: str, environment: Mapping[str, str] | None = None) -> Ended:
    """The same of `main`, which leaves the environment as it was. What it does not catch is raised."""
    with (
        mock.patch.dict(os.environ, environment or {}),
        mock.patch.object(sys, "stdin", io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()) as printed,
        contextlib.redirect_stderr(io.StringIO()) as said,
    ):
        try:
            code = main(arguments)
        except SystemExit as ended:  # argparse's
            code = int(ended.code or 0)
    assert "Traceback" not in said.getvalue()
    return Ended(code, printed.getvalue(), said.getvalue())
