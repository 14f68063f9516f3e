"""Arguments in, exit code out."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import yaml

from smartdevdigest_ops.cli import graph, models, stored
from smartdevdigest_ops.cli.command import Commands
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.settings import OVERRIDES_VARIABLE, parse_overrides, profile_names
from smartdevdigest_ops.stage.process import quiet_libraries


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 when something asked for failed, 2 for bad input."""
    options = _parser().parse_args(arguments)
    try:
        quiet_libraries()
        _apply_environment(options)
        code: int = options.command(options)
    except UserError as error:
        print(f"smartdevdigest: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output went away (`| head`); not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"smartdevdigest: {place}{error.strerror or error}. Nothing further was done.", file=sys.stderr)
        return UserError.exit_code
    except KeyboardInterrupt:
        print("smartdevdigest: interrupted; what was finished stays in the store.", file=sys.stderr)
        return 128 + signal.SIGINT
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smartdevdigest",
        description="A small model of your own that digests technical documents (ko/en): make it, use it, judge it.",
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--profile", metavar="P", help=f"config/profiles/P.yaml: {', '.join(profile_names())}")
    shared.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
        help="lay a setting over the profile, e.g. --set training.m1.max_steps=20 (repeatable)",
    )  # fmt: skip
    commands = Commands(parser, shared)
    for group in (graph, models, stored):
        group.add_to(commands)
    return parser


def _apply_environment(options: argparse.Namespace) -> None:
    """Profile and overrides go through the environment: the code location and stage processes see the same."""
    if options.profile:
        os.environ["SMARTDEVDIGEST_PROFILE"] = options.profile
    if options.overrides:
        tree = parse_overrides(os.environ.get(OVERRIDES_VARIABLE, "{}"))
        for item in options.overrides:
            key, separator, value = item.partition("=")
            if key == "profile":
                raise UserError(f"--set {item!r}: a profile is chosen by --profile.")
            if not separator or not key:
                raise UserError(f"--set {item!r}: needed KEY=VALUE, e.g. --set training.m1.max_steps=20.")
            _put(tree, key.split("."), value, item)
        os.environ[OVERRIDES_VARIABLE] = yaml.safe_dump(tree, allow_unicode=True)


def _put(tree: dict[str, Any], keys: list[str], value: str, item: str) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise UserError(f"--set {item!r}: {key!r} was set to a single value before; it has no settings below it.")
    try:
        tree[keys[-1]] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"--set {item!r}: the value is not YAML: {error}") from None
