"""What a stage used: device, wall time, energy, peak memory of the process and of the GPU."""

import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_GPU_POLL_SECONDS = 0.5
# RAPL counters wrap after 65-260 kJ, which a server's socket uses in ten minutes or more.
_ENERGY_POLL_SECONDS = 30.0
_POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Energy that the whole machine used meanwhile, in joules, whoever used it; None where nothing can be read.

    CPU packages by the kernel's powercap counters (Intel and AMD RAPL), which are often readable by root alone, and
    GPUs by NVML (Volta and later). What is not readable is not estimated.
    """

    def __init__(self, powercap: Path = _POWERCAP, *, gpus: bool = False) -> None:
        self._counters: list[tuple[Callable[[], float], float]] = [
            (partial(_read_microjoules, zone / "energy_uj"), _read_microjoules(zone / "max_energy_range_uj"))
            for zone in sorted(powercap.glob("*-rapl:*"))
            if zone.name.count(":") == 1 and _is_readable(zone / "energy_uj")  # further colons: parts of a package
        ]
        if gpus:
            self._counters += [(counter, 0.0) for counter in _gpu_counters()]
        self._last = [read() for read, _ in self._counters]
        self._joules = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> Self:
        if self._counters:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _poll(self) -> None:
        is_over = False
        while not is_over:
            is_over = self._stop.wait(_ENERGY_POLL_SECONDS)
            try:
                readings = [read() for read, _ in self._counters]
            except Exception:  # noqa: BLE001 - whatever a driver raises: half a sum would pass for a whole one
                self._counters = []
                return
            for now, last, (_, limit) in zip(readings, self._last, self._counters, strict=True):
                self._joules += now - last + limit if now < last else now - last
            self._last = readings

    def joules(self) -> float | None:
        """Used between entering and leaving."""
        return round(self._joules, 1) if self._counters else None


def _read_microjoules(file: Path) -> float:
    return int(file.read_text()) / 1e6


def _is_readable(file: Path) -> bool:
    try:
        _read_microjoules(file)
    except (OSError, ValueError):
        return False
    return True


def _read_gpu_joules(handle: Any) -> float:
    import pynvml

    return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000


def _gpu_counters() -> list[Callable[[], float]]:
    import pynvml

    counters: list[Callable[[], float]] = []
    try:
        pynvml.nvmlInit()
        for number in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(number)
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            counters.append(partial(_read_gpu_joules, handle))
    except pynvml.NVMLError:
        return []  # no driver, or a GPU that does not count
    return counters


class ResourceMeter:
    """Context manager that measures the work inside it.

    Peak RSS is the process's since its start (getrusage), so it is exact for a stage in its own process. GPU memory
    is polled through NVML (nvidia-ml-py) for this process on every GPU, and is null where there is no NVML.
    """

    def __init__(self, device: str) -> None:
        self._wanted = device
        self._peak_gpu_bytes: int | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._energy = EnergyMeter(gpus=device in ("auto", "cuda"))
        self._seconds = 0.0

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        self._energy.__enter__()
        if self._wanted in ("auto", "cuda"):
            self._thread = threading.Thread(target=self._poll_gpu, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._seconds = time.perf_counter() - self._start
        self._energy.__exit__(kind, error, trace)
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _poll_gpu(self) -> None:
        import pynvml

        try:
            pynvml.nvmlInit()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
            while True:
                used = 0
                for handle in handles:
                    processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
                    used += sum(p.usedGpuMemory or 0 for p in processes if p.pid == os.getpid())
                self._peak_gpu_bytes = max(self._peak_gpu_bytes or 0, used)
                if self._stop.wait(_GPU_POLL_SECONDS):
                    return
        except pynvml.NVMLError:
            return  # no driver, or one that does not tell: what torch allocated is reported then

    def readings(self) -> dict[str, Any]:
        """device, wall_seconds, energy_joules, peak_rss_bytes and peak_gpu_bytes."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            "device": self._device(),
            "wall_seconds": round(self._seconds, 3),
            "energy_joules": self._energy.joules(),
            # Linux counts in KiB, macOS in bytes.
            "peak_rss_bytes": peak if sys.platform == "darwin" else peak * 1024,
            "peak_gpu_bytes": self._gpu_bytes(),
        }

    def _gpu_bytes(self) -> int | None:
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_available():
            return self._peak_gpu_bytes
        # In a container NVML may list processes by the host's ids, and finds none of ours.
        return max(self._peak_gpu_bytes or 0, int(torch.cuda.max_memory_reserved()))

    def _device(self) -> str:
        torch = sys.modules.get("torch")
        if torch is None:
            return "cpu"
        from smartdevdigest_ops.models.devices import choose_device  # noqa: PLC0415 - torch is loaded already

        return choose_device(self._wanted)
