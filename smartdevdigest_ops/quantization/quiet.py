"""Keep a talkative package's output in a log file.

gptqmodel prints a banner, tables and progress bars of its own (400 lines for a two-layer model), configures logging
when it is imported, and writes a `logs/` directory into the working directory. All of it belongs in one file.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


class _LogStream:
    """A text stream that writes to the log that is open, and drops what comes when none is.

    One object for the life of the process: logging handlers and progress threads keep the stream they first saw, and
    would fail on a closed file later.
    """

    encoding = "utf-8"

    def __init__(self) -> None:
        self.log: TextIO | None = None

    def write(self, text: str) -> int:
        """Write to the open log."""
        if self.log is not None:
            self.log.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the open log."""
        if self.log is not None:
            self.log.flush()

    def isatty(self) -> bool:
        """Never a terminal: no cursor movement in a file."""
        return False


_STREAM = _LogStream()


@contextlib.contextmanager
def output_to_log(log_file: Path) -> Iterator[TextIO]:
    """Send stdout, stderr and stray files next to `log_file`; yields the stderr of before, for one's own progress.

    Changes the process's working directory meanwhile: paths used inside must be absolute.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    progress = sys.stderr
    with (
        log_file.open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(_STREAM),
        contextlib.redirect_stderr(_STREAM),
        contextlib.chdir(log_file.parent),
    ):
        _STREAM.log = log
        try:
            yield progress
        finally:
            _STREAM.log = None
