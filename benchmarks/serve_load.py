"""The load that `smartdevdigest serve` holds, driven by wrk: `python -m benchmarks.serve_load --model DIR DROPS...`.

Starts the server on a model directory (on a free port, with the profile's and `--set`'s settings), posts documents of
real drops with so many clients at a time, and prints a line per number of clients. Each client waits for its answer
before it sends the next document, and for Retry-After when it was turned away. Latencies are of the requests that were
digested. What is under way when the time is up is not counted.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.environment import environment_lines
from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.drops.files import read_drop

SCRIPT = Path(__file__).with_suffix(".lua")
_HEADER = (
    "| clients | requests/s | documents/s | p50 s | p95 s | p99 s | documents per batch | 429 |\n"
    "|---|---|---|---|---|---|---|---|"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("drops", nargs="+", type=Path, metavar="DROPS")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64], help="default: 1 4 16 64")
    parser.add_argument("--seconds", type=int, default=60, help="per number of clients; default: 60")
    parser.add_argument("--documents", type=int, default=1, help="per request; default: 1")
    parser.add_argument("--profile", default="sample")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--seed", type=int, default=17, help="of the documents' order")
    options = parser.parse_args(arguments)
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: https://github.com/wg/wrk, or the package `wrk` of Debian and Ubuntu.")
    print("\n".join(environment_lines(("torch", "transformers", "llguidance", "fastapi", "uvicorn"))))
    print(f"- {_wrk_version()}, {options.seconds} s per line, {options.documents} documents per request\n")
    with tempfile.TemporaryDirectory() as directory, _server(options) as url:
        bodies = Path(directory) / "bodies.jsonl"
        _write_bodies(bodies, options.drops, options.documents, options.seed)
        print(_HEADER, flush=True)
        failed = sum(_measure(url, bodies, clients, options) for clients in options.clients)
    if failed:
        sys.exit(f"{failed} requests were answered neither with digests nor with 429.")


def _wrk_version() -> str:
    shown = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout  # its exit code is 1
    return shown.partition(" [")[0]


def _write_bodies(path: Path, drops: Sequence[Path], num_documents: int, seed: int) -> None:
    """A request's body per line: documents of the drops in random order, each as often as it is in them."""
    records = [record for drop in drops for _, record in read_drop(drop) if isinstance(record, CrawlRecord)]
    random.Random(seed).shuffle(records)
    documents = [record.model_dump(mode="json", exclude={"extra"}) for record in records]
    starts = range(0, len(documents) - num_documents + 1, num_documents)
    requests = [documents[start : start + num_documents] for start in starts]
    bodies = [json.dumps(request if num_documents > 1 else request[0], ensure_ascii=False) for request in requests]
    path.write_text("".join(f"{body}\n" for body in bodies), encoding="utf-8")


@contextlib.contextmanager
def _server(options: argparse.Namespace) -> Iterator[str]:
    """The address of a server that is ready, in a process of its own that is stopped afterwards."""
    command = [sys.executable, "-m", "smartdevdigest_ops.cli", "serve", "--profile", options.profile]
    command += ["--port", "0", "--model", str(options.model.resolve())]
    command += [part for override in options.overrides for part in ("--set", override)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stderr=log, env=dict(os.environ))
        try:
            yield _await_ready(process, log.fileno())
        finally:
            process.terminate()
            process.wait()


def _await_ready(process: "subprocess.Popen[bytes]", log: int) -> str:
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
        written = os.pread(log, 1 << 20, 0).decode(errors="replace")
        if process.returncode is not None:
            sys.exit(f"The server ended:\n{written}")
        if "Serving model" in written and (url := re.search(r"http://\S+:\d+", written)):
            return url[0]


def _measure(url: str, bodies: Path, clients: int, options: argparse.Namespace) -> int:
    """Print one line; returns how many requests failed."""
    before = _batches(url)
    command = ["wrk", "-t", str(clients), "-c", str(clients), "-d", f"{options.seconds}s", "--timeout", "600s"]
    command += ["-s", str(SCRIPT), f"{url}/v1/digest", "--", str(bodies)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    got = json.loads(shown.splitlines()[-1])
    num_batches, num_documents = (now - then for now, then in zip(_batches(url), before, strict=True))
    print(
        f"| {clients} | {got['answered'] / got['seconds']:.2f} "
        f"| {options.documents * got['answered'] / got['seconds']:.2f} "
        f"| {got['p50']:.2f} | {got['p95']:.2f} | {got['p99']:.2f} "
        f"| {num_documents / max(1, num_batches):.1f} | {got['turned_away']} |",
        flush=True,
    )
    return int(got["failed"])


def _batches(url: str) -> tuple[float, float]:
    """(batches, documents in them) since the server started."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").raise_for_status().text)
    samples = {sample.name: sample.value for family in families for sample in family.samples}
    name = "smartdevdigest_batch_documents"
    return samples[f"{name}_count"], samples[f"{name}_sum"]


if __name__ == "__main__":
    main()
