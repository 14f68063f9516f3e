"""Where steps run: the same drops on a real Ray cluster of two nodes, one of which is killed, and on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil
import pytest

from smartdevdigest_assets import execution
from smartdevdigest_assets.execution import placement, step_executor
from smartdevdigest_assets.headless import dagster_instance
from smartdevdigest_assets.partitions import DROPS
from smartdevdigest_ops.artifacts import ArtifactStore, Making
from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.drops.files import register_drop
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.housekeeping.verify import verify_store
from smartdevdigest_ops.settings import OVERRIDES_VARIABLE, PROJECT_DIR, Settings, load_settings
from smartdevdigest_ops.stage import STAGE_MODULES, plan_stage, run_stage

PER_DROP = ("raw_crawl", "cleaned_documents")
NUM_DROPS, COPIES = 3, 3  # of the 80 documents of the sample: some seconds of cleaning for each drop


def ray_settings(**execution_settings: object) -> Settings:
    overrides = {"execution": {"executor": "ray", **execution_settings}, "model": {"device": "cpu", "threads": 4}}
    return load_settings("ci", overrides=overrides)


# Chosen by one setting


def test_steps_run_on_this_machine_unless_asked_otherwise():
    settings = load_settings("ci")
    assert step_executor(settings).name == "multiprocess"
    assert not any(placement(name, settings, on_gpu=True) for name in STAGE_MODULES)


def test_this_machine_needs_no_ray():
    code = (
        "import sys, smartdevdigest_assets.definitions\n"
        "found = {'ray', 'dagster_ray'} & set(sys.modules); sys.exit(f'imported {found}' if found else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_without_the_extra_the_message_names_it_and_the_command(monkeypatch):
    monkeypatch.setattr(execution, "find_spec", lambda package: None)
    with pytest.raises(UserError, match=r"extra `ray`.*pip install 'smartdevdigest\[ray\]'"):
        step_executor(ray_settings())


def test_a_device_left_open_is_refused_on_ray():
    settings = load_settings("ci", overrides={"execution": {"executor": "ray"}})
    with pytest.raises(UserError, match=r"Set model\.device to cuda or cpu"):
        step_executor(settings)


# What a step demands


def demand(name: str, settings: Settings, *, on_gpu: bool = False) -> dict[str, float]:
    return placement(name, settings, on_gpu=on_gpu)["op_tags"]["dagster-ray/config"]


def test_every_stage_demands_something_or_it_would_stay_on_the_head_node():
    assert all(demand(name, ray_settings())["num_cpus"] > 0 for name in STAGE_MODULES)


def test_a_stage_that_computes_on_tensors_demands_its_threads():
    assert demand("m1_checkpoint", ray_settings())["num_cpus"] == 4
    assert demand("cleaned_documents", ray_settings())["num_cpus"] == 1


def test_a_gpu_is_demanded_by_the_stages_of_the_pool_and_where_there_is_one():
    on_cuda = load_settings("ci", overrides={"execution": {"executor": "ray"}, "model": {"device": "cuda"}})
    assert demand("m1_checkpoint", on_cuda, on_gpu=True)["num_gpus"] == 1
    assert "num_gpus" not in demand("domain_tokenizer", on_cuda)
    assert "num_gpus" not in demand("m1_checkpoint", ray_settings(), on_gpu=True)


def test_memory_is_demanded_in_bytes():
    assert demand("raw_crawl", ray_settings(memory_mib_per_step=2048))["memory"] == 2 * 1024**3
    assert "memory" not in demand("raw_crawl", ray_settings())


# A cluster of which a node dies


@dataclass
class Cluster:
    """Two nodes with one CPU each, as two process trees of this machine."""

    url: str
    head: psutil.Process
    worker: psutil.Process


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    if sys.platform != "linux":
        pytest.skip("needs 127.0.0.2 and 127.0.0.3, which only Linux answers to unasked")
    gcs_port, dashboard_port = free_port("127.0.0.2"), free_port("127.0.0.1")
    # Ray listens on every address whatever it is told; only who knows the token is let in.
    environment = os.environ | {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.urandom(32).hex(), "RAY_USAGE_STATS_ENABLED": "0",
        # A dead node is noticed after 1.5 s, not 30: the test need not wait for what Ray itself tests.
        "RAY_health_check_initial_delay_ms": "0", "RAY_health_check_period_ms": "500",
        "RAY_health_check_timeout_ms": "1000", "RAY_health_check_failure_threshold": "3",
    }  # fmt: skip
    with ExitStack() as stack:
        # Not tmp_path: the name of a Unix socket below it may have 107 characters, of which Ray takes 65.
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
        head = stack.enter_context(
            ray_node(
                environment, Path(directory) / "head.log", "--head", "--node-ip-address=127.0.0.2",
                f"--port={gcs_port}",
                f"--temp-dir={directory}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard_port}",
                "--no-monitor",
            )
        )  # fmt: skip
        wait_for_port("127.0.0.2", gcs_port, head)
        worker = stack.enter_context(
            ray_node(
                environment, Path(directory) / "worker.log", f"--address=127.0.0.2:{gcs_port}",
                "--node-ip-address=127.0.0.3",
            )
        )  # fmt: skip
        wait_for_port("127.0.0.1", dashboard_port, head)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_AUTH_MODE", "token")
            patch.setenv("RAY_AUTH_TOKEN", environment["RAY_AUTH_TOKEN"])
            yield Cluster(f"http://127.0.0.1:{dashboard_port}", head, worker)


@contextmanager
def ray_node(environment: dict[str, str], log: Path, *arguments: str) -> Iterator[psutil.Process]:
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", "--num-gpus=0",
        "--object-store-memory=78643200", "--include-log-monitor=false", "--disable-usage-stats",
        f"--dashboard-agent-listen-port={free_port('127.0.0.1')}", "--min-worker-port=0", "--max-worker-port=0",
        *arguments,
    ]  # fmt: skip
    with log.open("w") as stream:
        node = psutil.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield node
    finally:
        kill_tree(node)
        node.wait()


def kill_tree(root: psutil.Process) -> None:
    """Kill a node with all that runs on it at once, as a power cut does: frozen first, so that nothing gets away."""
    for process in frozen_tree(root):
        with_process(process, signal.SIGKILL)


def frozen_tree(root: psutil.Process) -> list[psutil.Process]:
    frozen: list[psutil.Process] = []
    while new := [process for process in tree(root) if process not in frozen]:
        for process in new:
            with_process(process, signal.SIGSTOP)
        frozen += new
    return frozen


def tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def with_process(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def free_port(host: str) -> int:
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


def wait_for_port(host: str, port: int, node: psutil.Process) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
            return
        except OSError:
            assert node.is_running(), "the Ray node ended"
            assert time.monotonic() < deadline, f"the Ray node does not answer on port {port}"
            time.sleep(0.1)


def write_drops(directory: Path, documents: Sequence[CrawlRecord]) -> list[Path]:
    """Drops of other documents each: no two share a URL or a first paragraph."""
    directory.mkdir()
    paths = [directory / f"drop-{number}.jsonl" for number in range(NUM_DROPS)]
    for number, path in enumerate(paths):
        with path.open("w", encoding="utf-8") as stream:
            for copy in range(COPIES):
                for document in documents:
                    row = json.loads(document.model_dump_json())
                    row["url"] += f"/{number}/{copy}"
                    row["content"] = f"Edition {copy} of collection {number}.\n\n{row['content']}"
                    stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    return paths


def materialize(drop: str, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """A run of the code location as the UI starts it, for one partition."""
    command = [
        sys.executable, "-m", "dagster", "asset", "materialize", "-m", "smartdevdigest_assets.definitions",
        "--select", " or ".join(f"key:{name}" for name in PER_DROP), "--partition", drop,
    ]  # fmt: skip
    with log.open("w") as stream:
        return subprocess.Popen(command, env=environment, cwd=PROJECT_DIR, stdout=stream, stderr=subprocess.STDOUT)


def kill_in_the_middle(node: psutil.Process, store: ArtifactStore) -> str:
    """Kill the node while a step on it is writing; returns the asset. Frozen first, so that it cannot finish."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for staged in (store.root / ".staging").glob("*.*.*.*"):
            asset, _, process_id, _ = staged.name.split(".")
            if int(process_id) not in {process.pid for process in tree(node)}:
                continue
            frozen = frozen_tree(node)
            if staged.is_dir():  # published, it would have been renamed away
                kill_tree(node)
                return asset
            for process in frozen:
                with_process(process, signal.SIGCONT)
        time.sleep(0.02)
    pytest.fail("no step wrote on the node that was to be killed")


def made_here(paths: Sequence[Path], settings: Settings) -> dict[tuple[str, str], Making]:
    """What the stages make of the drops in this process."""
    store = ArtifactStore(settings.store_dir)
    keys = [register_drop(store, path) for path in paths]
    return {(name, key): run_stage(plan_stage(name, settings, key))[0] for key in keys for name in PER_DROP}


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_drops_survive_the_death_of_a_node_and_nothing_is_doubled(
    cluster: Cluster, tmp_path: Path, sample_documents: list[CrawlRecord], monkeypatch
):
    paths = write_drops(tmp_path / "drops", sample_documents)
    store = ArtifactStore(tmp_path / "store")
    keys = [register_drop(store, path) for path in paths]
    overrides = {"execution": {"executor": "ray", "ray_address": cluster.url, "retry_delay_seconds": 0.1}}
    environment = os.environ | {
        "SMARTDEVDIGEST_PROFILE": "ci", "SMARTDEVDIGEST_STORE": str(store.root), "OMP_NUM_THREADS": "1",
        OVERRIDES_VARIABLE: json.dumps(overrides | {"model": {"device": "cpu"}}),
    }  # fmt: skip
    monkeypatch.setenv("DAGSTER_HOME", "")  # set by `dagster_instance`, and unset after the test
    with dagster_instance(store.root) as instance:
        environment["DAGSTER_HOME"] = os.environ["DAGSTER_HOME"]
        instance.add_dynamic_partitions(str(DROPS.name), keys)
        runs = [materialize(key, environment, tmp_path / f"{key}.log") for key in keys]
        try:
            killed = kill_in_the_middle(cluster.worker, store)
            codes = [run.wait(timeout=180) for run in runs]
        finally:
            for run in runs:
                if run.poll() is None:
                    kill_tree(psutil.Process(run.pid))
                run.wait()
        assert codes == [0] * NUM_DROPS, "\n".join(path.read_text()[-3000:] for path in tmp_path.glob("*.log"))
        assert num_events(instance, dg.DagsterEventType.STEP_UP_FOR_RETRY).keys() >= {killed}
        assert num_events(instance, dg.DagsterEventType.ASSET_MATERIALIZATION) == dict.fromkeys(PER_DROP, NUM_DROPS)

    reference = made_here(paths, load_settings("ci", overrides={"store": {"root": str(tmp_path / "reference")}}))
    for (name, key), expected in reference.items():
        home = store.root / name / key
        assert len(list((home / "makings").glob("*.json"))) == 1
        assert [path.parent.name for path in home.glob("*/manifest.json")] == [expected.version]
        assert store.current_making(name, key).metrics == expected.metrics
    assert verify_store(store).problems == ()
    settings = load_settings("ci", overrides={"store": {"root": str(store.root)}})
    corpus, _ = run_stage(plan_stage("cleaned_corpus", settings))
    assert corpus.metrics["num_records"] == NUM_DROPS * COPIES * len(sample_documents)


def num_events(instance: dg.DagsterInstance, event_type: dg.DagsterEventType) -> dict[str, int]:
    """Events of all runs, by step."""
    counts: dict[str, int] = {}
    for run in instance.get_runs():
        for record in instance.get_records_for_run(run.run_id, of_type=event_type).records:
            step = str(record.event_log_entry.step_key)
            counts[step] = counts.get(step, 0) + 1
    return counts
