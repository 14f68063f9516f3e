"""Processes that tests kill or let work together, forked from one server that has imported what they need.

A process has one fork server, which imports the list that was set last, whoever set it: so the list is here, for every
test. It takes the server about 10 s; without it each forked process takes as long.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from typing import Any

import pytest

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    [
        # transformers imports an architecture when it is first asked for: that of the tiny model is named too.
        *("torch", "transformers.trainer", "transformers.models.llama.modeling_llama", "peft", "accelerate"),
        *("tensorboardX", "killed_crawl"),
    ]
)


def fork(target: Callable[..., None], *arguments: Any, **options: Any) -> ForkServerProcess:
    """A process in which `target` runs. The server computes nothing itself, so that it forks safely."""
    with pytest.MonkeyPatch.context() as patch:
        # Of a server that is not running yet: before Python 3.11.9 it does not take over sys.path, and passes over
        # what it does not find.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    process = _PROCESSES.Process(target=target, args=arguments, kwargs=options)
    process.start()
    return process
