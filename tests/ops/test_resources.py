"""What a stage used, from counters as the kernel writes them."""

import time
from pathlib import Path

from smartdevdigest_ops.resources import EnergyMeter, ResourceMeter


def _zone(powercap: Path, name: str, microjoules: int, limit: int = 10_000_000) -> Path:
    zone = powercap / name
    zone.mkdir(parents=True)
    (zone / "energy_uj").write_text(f"{microjoules}\n")
    (zone / "max_energy_range_uj").write_text(f"{limit}\n")
    return zone


def test_energy_is_summed_over_packages_and_a_counter_that_wrapped_goes_on(tmp_path: Path) -> None:
    first, second = _zone(tmp_path, "intel-rapl:0", 1_000_000), _zone(tmp_path, "intel-rapl:1", 9_000_000)
    core = _zone(tmp_path, "intel-rapl:0:0", 0)
    with EnergyMeter(tmp_path) as meter:
        (first / "energy_uj").write_text("3500000\n")
        (second / "energy_uj").write_text("500000\n")
        (core / "energy_uj").write_text("2000000\n")
    assert meter.joules() == 2.5 + 1.5


def test_energy_that_nobody_counts_is_none_and_not_zero(tmp_path: Path) -> None:
    unreadable = _zone(tmp_path, "intel-rapl:0", 0)
    (unreadable / "energy_uj").unlink()
    with EnergyMeter(tmp_path) as meter:
        pass
    assert meter.joules() is None


def test_a_counter_that_goes_away_leaves_no_half_a_sum(tmp_path: Path) -> None:
    _zone(tmp_path, "intel-rapl:0", 0)
    gone = _zone(tmp_path, "intel-rapl:1", 0)
    with EnergyMeter(tmp_path) as meter:
        (gone / "energy_uj").unlink()
    assert meter.joules() is None


def test_a_meter_reads_time_and_memory_of_this_process() -> None:
    with ResourceMeter("cpu") as meter:
        time.sleep(0.01)
    readings = meter.readings()
    assert readings["wall_seconds"] >= 0.01
    assert readings["peak_rss_bytes"] > 2**20
    assert set(readings) == {"device", "wall_seconds", "energy_joules", "peak_rss_bytes", "peak_gpu_bytes"}
