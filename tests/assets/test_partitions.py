"""Partitions of drops."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import dagster as dg
import pytest
from sqlalchemy.exc import IntegrityError

from smartdevdigest_assets.headless import dagster_instance
from smartdevdigest_assets.partitions import DROPS, add_drops

NUM_RUNS = 4


def test_runs_that_add_the_same_drops_at_once_add_each_of_them_once(tmp_path: Path):
    with dagster_instance(tmp_path) as instance:
        instance.get_dynamic_partitions(str(DROPS.name))  # makes the tables
    together = Barrier(NUM_RUNS)
    keys = [f"{number:016x}" for number in range(12)]

    def add(start: int) -> None:
        with dagster_instance(tmp_path) as instance:
            for number, key in enumerate(keys):
                together.wait(30)
                # Each begins elsewhere, so that some of what it adds is there already.
                add_drops(instance, [key, f"{key}-{(start + number) % 2}"])

    with ThreadPoolExecutor(NUM_RUNS) as pool:
        list(pool.map(add, range(NUM_RUNS)))
    with dagster_instance(tmp_path) as instance:
        assert len(instance.get_dynamic_partitions(str(DROPS.name))) == 3 * len(keys)


def test_an_error_that_no_other_run_explains_is_not_swallowed(tmp_path: Path, monkeypatch):

    def refuse(*_: object) -> None:
        raise IntegrityError("insert", {}, Exception("CHECK constraint failed"))

    monkeypatch.setattr(dg.DagsterInstance, "add_dynamic_partitions", refuse)
    with dagster_instance(tmp_path) as instance, pytest.raises(IntegrityError, match="CHECK"):
        add_drops(instance, ["a"])
