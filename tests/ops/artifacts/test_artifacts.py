import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smartdevdigest_ops.artifacts import ArtifactError, ArtifactStore, Making
from smartdevdigest_ops.housekeeping.verify import Verification, verify_store


def publish(store: ArtifactStore, text: str = "content", asset: str = "thing", partition: str | None = None):
    with store.staging(asset) as staged:
        (staged / "folder").mkdir()
        (staged / "folder" / "file.txt").write_text(text)
        return store.publish(staged, asset, partition)


def making(version: str, fingerprint: str, *, passed: bool = True, blocking: bool = True, **fields) -> Making:
    check = {"name": "gate", "passed": passed, "blocking": blocking, "message": "", "metadata": {}}
    values = {
        "asset": "thing",
        "partition": None,
        "inputs": {},
        "settings": {},
        "code_version": "1",
        "environment": {},
        "resources": {},
        "metrics": {},
        "checks": [check],
    }
    return Making(version=version, fingerprint=fingerprint, **values | fields)


def test_the_same_content_is_the_same_version_and_other_content_another(tmp_path: Path):
    store = ArtifactStore(tmp_path)
    first, again, other = publish(store), publish(store), publish(store, "other")
    assert first.version == again.version != other.version
    assert {path.name for path in (tmp_path / "thing").iterdir()} == {first.version, other.version}


def test_a_partition_has_its_own_current_version(tmp_path: Path):
    store = ArtifactStore(tmp_path)
    for key in ("b", "a"):
        artifact = publish(store, key, partition=key)
        store.record(making(artifact.version, "f", partition=key))
    assert store.partitions("thing") == ["a", "b"]
    assert store.current("thing") is None
    assert (store.current("thing", "a").path / "folder" / "file.txt").read_text() == "a"


def test_a_making_that_failed_a_blocking_check_never_becomes_current(tmp_path: Path):
    store = ArtifactStore(tmp_path)
    good, bad = publish(store, "good"), publish(store, "bad")
    store.record(making(good.version, "f1"))
    store.record(making(bad.version, "f2", passed=False))
    assert store.current("thing").version == good.version
    assert store.making("thing", "f2").version == bad.version


def test_a_failed_check_that_does_not_block_lets_the_making_become_current(tmp_path: Path):
    store = ArtifactStore(tmp_path)
    artifact = publish(store)
    store.record(making(artifact.version, "f", passed=False, blocking=False))
    assert store.current("thing").version == artifact.version


@pytest.mark.parametrize("damage", ["flip", "shorten", "remove", "add"])
def test_every_kind_of_damage_is_found_and_named(tmp_path: Path, damage: str):
    artifact = publish(ArtifactStore(tmp_path))
    assert artifact.problems() == []
    file = artifact.path / "folder" / "file.txt"
    if damage == "flip":
        file.write_text("Content")
    elif damage == "shorten":
        file.write_text("")
    elif damage == "remove":
        file.unlink()
    else:
        file = artifact.path / "new.txt"
        file.write_text("")
    (problem,) = artifact.problems()
    assert str(file) in problem


def test_a_damaged_artifact_is_replaced_when_the_same_content_is_published_again(tmp_path: Path):
    store = ArtifactStore(tmp_path)
    (publish(store).path / "folder" / "file.txt").write_text("damaged")
    assert publish(store).problems() == []


def test_opening_what_is_not_there_says_what_to_do(tmp_path: Path):
    with pytest.raises(ArtifactError, match="materialize"):
        ArtifactStore(tmp_path).open("thing", "0" * 16)


def test_a_stage_that_fails_leaves_nothing_behind(tmp_path: Path):
    store = ArtifactStore(tmp_path)

    def fail_halfway():
        with store.staging("thing") as staged:
            (staged / "half").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert verify_store(store) == Verification(0, 0, ())
    assert list((tmp_path / ".staging").iterdir()) == []


def test_killing_the_writer_before_publish_leaves_no_artifact_and_its_rest_is_removed_later(tmp_path: Path):
    code = (
        "import sys, time; from pathlib import Path; from smartdevdigest_ops.artifacts import ArtifactStore\n"
        "with ArtifactStore(Path(sys.argv[1])).staging('thing') as staged:\n"
        "    (staged / 'half').write_text('x'); print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"ready\n"
        writer.kill()
    store = ArtifactStore(tmp_path)
    assert verify_store(store) == Verification(0, 0, ())
    assert len(list((tmp_path / ".staging").iterdir())) == 1
    publish(store)
    assert list((tmp_path / ".staging").iterdir()) == []


def test_a_staging_directory_of_a_living_process_is_left_alone(tmp_path: Path):
    living = tmp_path / ".staging" / f"thing.{socket.gethostname().replace('.', '-')}.{os.getppid()}.x"
    living.mkdir(parents=True)
    publish(ArtifactStore(tmp_path))
    assert living.is_dir()


def test_the_record_of_a_making_can_be_read_back(tmp_path: Path):
    store = ArtifactStore(tmp_path)
    written = making(publish(store).version, "f", metrics={"loss": 1.5}, created=time.strftime("%Y"))
    store.record(written)
    assert store.current_making("thing") == written
    assert json.loads((tmp_path / "thing" / "current.json").read_text())["fingerprint"] == "f"
