import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running_server import eventually

from smartdevdigest_ops.artifacts import Artifact, ArtifactStore, Making
from smartdevdigest_ops.digesting.errors import DigestingError
from smartdevdigest_ops.digesting.model import DIGEST_CONFIG
from smartdevdigest_ops.release import RELEASE_FILE
from smartdevdigest_ops.release.decisions import roll_back
from smartdevdigest_ops.serving.models import current_release
from smartdevdigest_ops.settings import load_settings

WEIGHTS = "model.safetensors"


class Releases:
    """A real store in which models are released."""

    def __init__(self, root: Path, model_dir: Path) -> None:
        self.store = ArtifactStore(root)
        self._model_dir = model_dir
        self._count = 0

    def _publish(self, asset: str, files: Path, **inputs: str) -> Artifact:
        self._count += 1
        with self.store.staging(asset) as staged:
            shutil.copytree(files, staged, dirs_exist_ok=True)
            artifact = self.store.publish(staged, asset)
        self.store.record(Making(asset, None, artifact.version, f"{self._count:016x}", inputs, {}, "1", {}, {}, {}, []))
        return artifact

    def publish_model(self, *, num_keywords: int = 2, weights: bytes | None = None) -> Artifact:
        """The tiny model, told apart by how it is asked."""
        with self.store.staging("files") as staged:
            shutil.copytree(self._model_dir, staged, dirs_exist_ok=True)
            config = json.loads((staged / DIGEST_CONFIG).read_text())
            config["digesting"]["max_keywords"] = num_keywords
            (staged / DIGEST_CONFIG).write_text(json.dumps(config))
            if weights is not None:
                (staged / WEIGHTS).write_bytes(weights)
            return self._publish("quantized_model", staged)

    def release(self, model: Artifact) -> str:
        with self.store.staging("files") as staged:
            before = self.store.current("release")
            content = {"quantized_model": model.version, "previous": before and before.version, "metrics": {}}
            (staged / RELEASE_FILE).write_text(json.dumps(content))
            self._publish("release", staged)
        return model.version

    def evaluate(self, model: Artifact) -> None:
        with self.store.staging("files") as staged:
            (staged / "report.json").write_text(json.dumps({"languages": {}}))
            self._publish("evaluation_report", staged, quantized_model=model.version)


@pytest.fixture
def releases(tmp_path, model_dir):
    return Releases(tmp_path / "store", model_dir)


def serving(start, releases, **settings):
    return start(find=current_release(releases.store), reload_seconds=0.05, **settings)


def test_a_new_release_is_taken_up_under_load_and_no_request_is_lost(start, releases, documents):
    old = releases.release(releases.publish_model())
    server = serving(start, releases)
    new_is_seen = threading.Event()

    def ask_until_the_new_one_answers(document: dict) -> list[tuple[int, str]]:
        answers = []
        while not new_is_seen.is_set() or answers[-1][1] == old:
            response = server.digest(document)
            answers.append((response.status_code, response.headers["SmartDevDigest-Model"]))
            if answers[-1][1] != old:
                new_is_seen.set()
        return answers

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(ask_until_the_new_one_answers, document) for document in documents[:8]]
        eventually(lambda: server.metric("documents_total", outcome="digested") >= 8)
        new = releases.release(releases.publish_model(num_keywords=3))
        answers = [client.result() for client in clients]
    for models in ([model for _, model in client] for client in answers):
        assert set(models) <= {old, new}
        assert models == sorted(models, key=[old, new].index)  # never back
        assert models[-1] == new
    assert any(client[0][1] == old for client in answers)
    assert {status for client in answers for status, _ in client} == {200}
    asked = sum(map(len, answers))
    assert server.metric("documents_total", outcome="digested") == asked
    assert server.metric("answers_total") == asked
    assert server.metric("loads_total") == 2
    assert server.metric("model") == server.metric("model", version=new) == 1


@pytest.mark.parametrize("damage", ["weights that are none", "a flipped byte", "a config of another prompt"])
def test_a_broken_release_leaves_the_old_one_serving_and_says_so(start, releases, documents, damage):
    old = releases.release(releases.publish_model())
    server = serving(start, releases)
    if damage == "weights that are none":
        broken = releases.publish_model(weights=b"\0" * 100)
    else:
        broken = releases.publish_model(num_keywords=4)
        file = broken.path / (WEIGHTS if damage == "a flipped byte" else DIGEST_CONFIG)
        data = bytearray(file.read_bytes())
        data[-20] ^= 1
        file.write_bytes(data)
    version = releases.release(broken)
    server.await_metric("release_failing", 1)
    ready = server.client.get("/ready")
    assert ready.status_code == 200
    assert ready.json()["model"] == old
    assert ready.json()["release_failure"]["release"] == version
    assert str(releases.store.root) not in ready.text
    assert server.metric("failed_loads_total") >= 1
    assert server.digest(documents[0]).headers["SmartDevDigest-Model"] == old

    good = releases.release(releases.publish_model(num_keywords=5))
    server.await_metric("release_failing", 0)
    assert server.client.get("/ready").json()["release_failure"] is None
    assert server.digest(documents[0]).headers["SmartDevDigest-Model"] == good


def test_a_release_that_is_taken_back_is_no_failure_any_more(start, releases):
    first = releases.publish_model()
    releases.release(first)
    server = serving(start, releases)
    releases.release(releases.publish_model(weights=b""))
    server.await_metric("release_failing", 1)
    releases.release(first)
    server.await_metric("release_failing", 0)
    assert server.metric("loads_total") == 1


def test_a_rollback_is_picked_up(start, releases, documents):
    first = releases.publish_model()
    releases.evaluate(first)
    releases.release(first)
    second = releases.release(releases.publish_model(num_keywords=3))
    server = serving(start, releases)
    assert server.digest(documents[0]).headers["SmartDevDigest-Model"] == second
    settings = load_settings("ci", overrides={"store": {"root": str(releases.store.root)}})
    roll_back(settings, None, "the answers got worse")
    eventually(lambda: server.client.get("/ready").json()["model"] == first.version)
    assert server.digest(documents[0]).headers["SmartDevDigest-Model"] == first.version


def test_a_store_whose_release_cannot_be_read_is_a_failure_and_serving_goes_on(start, releases, documents):
    releases.release(releases.publish_model())
    server = serving(start, releases)
    (releases.store.root / "release" / "current.json").write_text("damaged")
    server.await_metric("release_failing", 1)
    assert server.client.get("/ready").json()["release_failure"]["release"] is None
    assert server.digest(documents[0]).status_code == 200


def test_a_first_model_that_cannot_be_loaded_ends_the_server_with_its_error(start, releases):
    releases.release(releases.publish_model(weights=b"\0" * 100))
    server = start(find=current_release(releases.store), wait=False)
    server.join()
    assert isinstance(server.error, DigestingError)
    assert WEIGHTS in str(server.error) or "cannot be loaded" in str(server.error)
