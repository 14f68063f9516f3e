import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import stage_samples

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.settings import Settings, load_settings
from smartdevdigest_ops.stage import StageError, StageSpec, is_fresh, plan_stage, registry, run_stage


@pytest.fixture(autouse=True)
def _sample_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {stage.name: "stage_samples" for stage in stage_samples.STAGES}
    monkeypatch.setattr(registry, "STAGE_MODULES", names)


@pytest.fixture
def settings(ci_settings: Settings) -> Settings:
    ci_settings.store_dir.mkdir()
    (ci_settings.store_dir / "a.txt").write_text("one two")
    (ci_settings.store_dir / "b.txt").write_text("three")
    return ci_settings


def with_seed(settings: Settings, seed: int) -> Settings:
    return settings.model_copy(update={"seed": seed})


def test_a_stage_reads_all_partitions_of_its_input(settings: Settings, run):
    run("words", settings, "a")
    run("words", settings, "b")
    assert run("total", settings).metrics == {"total": 3.0}


def test_a_fingerprint_that_was_made_is_not_made_again(settings: Settings, run):
    run("words", settings, "a")
    spec = plan_stage("total", settings)
    first, made_first = run_stage(spec)
    second, made_again = run_stage(spec)
    assert (made_first, made_again) == (True, False)
    assert first == second


@pytest.mark.parametrize("change", ["settings", "input", "outside file"])
def test_what_decides_the_result_makes_it_stale_and_nothing_else_does(settings: Settings, run, change: str):
    run("words", settings, "a")
    run("total", settings)
    assert is_fresh("total", settings)
    assert is_fresh("total", settings.model_copy(update={"profile": "another"}))
    if change == "settings":
        assert not is_fresh("total", with_seed(settings, 99))
        assert is_fresh("words", with_seed(settings, 99), "a")
    elif change == "input":
        run("words", settings, "b")
        assert not is_fresh("total", settings)
    else:
        (settings.store_dir / "a.txt").write_text("changed")
        assert not is_fresh("words", settings, "a")


def test_the_same_content_from_a_changed_input_keeps_what_is_downstream_fresh(settings: Settings, run):
    run("words", settings, "a")
    version = run("total", settings).version
    # Another number of words and another seed that happen to give the same total.
    (settings.store_dir / "a.txt").write_text("one two three")
    run("words", settings, "a")
    assert run("total", with_seed(settings, settings.seed - 1)).version == version


def test_only_the_named_file_of_an_input_decides(settings: Settings):
    store = ArtifactStore(settings.store_dir)

    def publish(**texts: str) -> None:
        with store.staging("snapshot") as staged:
            for name, text in texts.items():
                (staged / f"{name}.txt").write_text(text)
            artifact = store.publish(staged, "snapshot")
        making, _ = run_stage(plan_stage("snapshot", settings))
        store.record(replace(making, version=artifact.version))

    publish(a="1", b="1")
    run_stage(plan_stage("length_of", settings, "a"))
    publish(a="1", b="2")
    assert is_fresh("length_of", settings, "a")
    publish(a="2", b="2")
    assert not is_fresh("length_of", settings, "a")


def test_a_failed_gate_keeps_the_last_good_version_current(settings: Settings, run):
    run("words", settings, "a")
    good = run("total", settings)
    (settings.store_dir / "b.txt").write_text("word " * 200)
    run("words", settings, "b")
    bad = run("total", settings)
    assert not bad.passed_gates
    assert ArtifactStore(settings.store_dir).current("total").version == good.version
    assert not is_fresh("total", settings)


def test_a_missing_input_is_named_with_what_to_do(settings: Settings):
    with pytest.raises(StageError, match=r"total needs words.*Materialize words first"):
        plan_stage("total", settings)


def test_a_setting_that_is_not_declared_cannot_be_read(settings: Settings, run):
    with pytest.raises(StageError, match=r"max_length.*does not declare"):
        run("meddler", settings)


def test_a_declared_check_that_is_not_reported_is_refused(settings: Settings, run):
    with pytest.raises(StageError, match="promised"):
        run("forgetful", settings)
    assert ArtifactStore(settings.store_dir).current("forgetful") is None


def test_what_a_stage_left_in_scratch_is_there_for_the_next_try_and_gone_after_success(settings: Settings, run):
    (settings.store_dir / "a.txt").write_text("refuse")
    spec = plan_stage("words", settings, "a")
    scratch = ArtifactStore(settings.store_dir).scratch("words", spec.fingerprint)
    (scratch / "checkpoint").write_text("x")
    with pytest.raises(UserError):
        run_stage(spec)
    assert (scratch / "checkpoint").is_file()
    (settings.store_dir / "a.txt").write_text("one")
    run_stage(spec)
    assert not scratch.exists()


def test_every_making_records_what_it_ran_on_and_used(settings: Settings, run):
    making = run("words", settings, "a")
    assert making.environment["python"].startswith("3.")
    assert making.resources["device"] == "cpu"
    assert making.resources["wall_seconds"] >= 0
    assert making.resources["peak_rss_bytes"] > 10 * 1024 * 1024
    assert making.inputs["file:a.txt"]


def command(spec: Path, name: str = "words") -> list[str]:
    code = (
        "import sys; from smartdevdigest_ops.stage import process, registry; "
        "registry.STAGE_MODULES = {'words': 'stage_samples'}; "
        f"sys.exit(process.main(['{name}', {str(spec)!r}]))"
    )
    return [sys.executable, "-c", code]


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parent)} | more


def test_a_stage_in_its_own_process_publishes_the_same_artifact(settings: Settings, tmp_path: Path):
    spec = plan_stage("words", settings, "a")
    spec.write(tmp_path / "spec.json")
    assert StageSpec.read(tmp_path / "spec.json") == spec
    subprocess.run(command(tmp_path / "spec.json"), check=True, env=environment())
    assert is_fresh("words", settings, "a")


def test_a_stage_process_that_refuses_says_why_and_exits_with_2(settings: Settings, tmp_path: Path):
    (settings.store_dir / "a.txt").write_text("refuse")
    plan_stage("words", settings, "a").write(tmp_path / "spec.json")
    ended = subprocess.run(
        command(tmp_path / "spec.json"), env=environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "spec.error").read_text() == "words: the file asks to be refused"


def test_a_spec_that_is_none_is_refused_with_2(tmp_path: Path):
    (tmp_path / "spec.json").write_text("{}")
    ended = subprocess.run(
        command(tmp_path / "spec.json"), env=environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "is not a stage spec" in ended.stderr


def test_a_stage_process_dies_with_its_parent(settings: Settings, tmp_path: Path):
    (settings.store_dir / "a.txt").write_text("sleep")
    plan_stage("words", settings, "a").write(tmp_path / "spec.json")
    parent_code = (
        "import os, subprocess; os.environ['SMARTDEVDIGEST_PARENT_PID'] = str(os.getpid()); "
        f"child = subprocess.Popen({command(tmp_path / 'spec.json')!r}); print(child.pid, flush=True); child.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent_code],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        child = int(parent.stdout.readline())
        wait_until(lambda: (settings.store_dir / "sleeping").exists())
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: gone(child))


def gone(process_id: int) -> bool:
    try:
        return psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_there_is_no_stage_of_that_name(settings: Settings):
    with pytest.raises(StageError, match="wrods"):
        plan_stage("wrods", load_settings("ci"))
