"""What a stage used: device, wall time, peak memory of the process and of the GPU."""

import os
import resource
import sys
import threading
import time
from types import TracebackType
from typing import Any, Self

_GPU_POLL_SECONDS = 0.5


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
        self._seconds = 0.0

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        if self._wanted in ("auto", "cuda"):
            self._thread = threading.Thread(target=self._poll_gpu, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._seconds = time.perf_counter() - self._start
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
        """device, wall_seconds, peak_rss_bytes and peak_gpu_bytes."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            "device": self._device(),
            "wall_seconds": round(self._seconds, 3),
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
