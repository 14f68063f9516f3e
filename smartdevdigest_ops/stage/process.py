"""A stage as a process of its own: `python -m smartdevdigest_ops.stage NAME SPEC.json`."""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.settings import Settings
from smartdevdigest_ops.stage import distributed, registry
from smartdevdigest_ops.stage.declaration import StageError
from smartdevdigest_ops.stage.planning import StageSpec
from smartdevdigest_ops.stage.running import print_line, run_stage, take_part

# Process id of the parent that a stage process must not outlive. Given by the parent: read from here, it could be
# that of whoever inherited an orphan already.
PARENT_VARIABLE = "SMARTDEVDIGEST_PARENT_PID"

# Beside the spec: why the stage refused its input.
ERROR_SUFFIX = ".error"


def _die_with(parent: int) -> None:
    """End this process when its parent ends, however that ends: no trainer is left behind."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - Linux only

        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def quiet_libraries() -> None:
    """Keep libraries from filling the log with what is no news: missing CUDA kernels on a CPU, weight loading bars."""
    for name in ("torchao", "torch.utils._pytree", "tokenicer"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # or a fork after its first use warns at length


def _launch_processes(spec: StageSpec, path: Path) -> None:
    """Become torch's launcher of several processes, where the stage and the settings want more than one."""
    if not registry.get_stage(spec.stage).distributed:
        return
    processes = distributed.wanted_processes(Settings.model_validate(spec.settings))
    if processes == 1:
        return
    if PARENT_VARIABLE in os.environ:
        # The launcher keeps this process's id and its promise to end with its parent; its children promise it to it.
        os.environ[PARENT_VARIABLE] = str(os.getpid())
    command = distributed.launch_command(spec.stage, path, processes)
    os.execv(command[0], command)


def main(arguments: list[str] | None = None) -> int:
    """Run one stage from its spec, in several processes where `training.processes` asks for them.

    Under Dagster Pipes the first process reports its log lines and the fingerprint made.
    """
    parser = argparse.ArgumentParser(
        prog="python -m smartdevdigest_ops.stage", description=(main.__doc__ or "").split("\n")[0]
    )
    parser.add_argument("name", choices=sorted(registry.STAGE_MODULES))
    parser.add_argument("spec", type=Path)
    options = parser.parse_args(arguments)
    if parent := os.environ.get(PARENT_VARIABLE):
        _die_with(int(parent))
    quiet_libraries()
    try:
        spec = StageSpec.read(options.spec)
        if spec.stage != options.name:
            raise StageError(f"{options.spec} is a spec of {spec.stage!r}, not of {options.name!r}.")
        if not distributed.is_launched():
            _launch_processes(spec, options.spec)
        else:
            distributed.use_own_gpu()
        if not distributed.is_first_process():
            os.environ["TQDM_DISABLE"] = "1"
            take_part(spec)
            return 0
        if "DAGSTER_PIPES_CONTEXT" not in os.environ:
            run_stage(spec)
            return 0
        from dagster_pipes import open_dagster_pipes  # noqa: PLC0415 - only there under Dagster

        with open_dagster_pipes() as pipes:

            def report_line(message: str) -> None:
                print_line(message)
                pipes.log.info(message)

            _, made = run_stage(spec, report_line)
            pipes.report_custom_message({"fingerprint": spec.fingerprint, "made": made})
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        # The parent process reads the reason here; an exit code alone would leave it to the logs.
        if options.spec.is_file():
            options.spec.with_suffix(ERROR_SUFFIX).write_text(str(error), encoding="utf-8")
        return 2
    return 0
