import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from smartdevdigest_ops.contracts import Digest
from smartdevdigest_ops.serving.access import API_KEY_VARIABLE


def test_a_stop_finishes_what_was_accepted_and_accepts_nothing_more(start, gated, documents):
    server = start(gated)
    with ThreadPoolExecutor(8) as clients:
        running = clients.submit(server.digest, documents[0])
        gated.await_batch()
        waiting = [clients.submit(server.digest, document) for document in documents[1:5]]
        server.await_metric("queued_documents", 4)
        server.signal()
        server.await_metric("stopping", 1)
        refused = server.digest(documents[5])
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stopping")
        assert int(refused.headers["Retry-After"]) > 0
        ready = server.client.get("/ready")
        assert (ready.status_code, ready.json()["stopping"]) == (503, True)
        assert server.client.get("/health").status_code == 200
        gated.let_pass(2)
        for response in [running, *waiting]:
            Digest.model_validate_json(response.result().raise_for_status().content)
    server.join()
    assert server.error is None
    with pytest.raises(httpx.ConnectError):
        server.client.get("/health")


def test_a_second_signal_ends_the_server_at_once(start, gated, documents):
    server = start(gated)
    with ThreadPoolExecutor(1) as clients:
        running = clients.submit(server.digest, documents[0])
        gated.await_batch()
        server.signal()
        server.await_metric("stopping", 1)
        server.signal()
        server.join()
        gated.let_pass()
        assert isinstance(running.exception(), httpx.HTTPError) or running.result().status_code == 503


def test_a_stop_that_takes_too_long_cuts_off_the_rest(start, gated, documents):
    server = start(gated, time_limit_seconds=1, stop_timeout_seconds=1)
    with ThreadPoolExecutor(1) as clients:
        running = clients.submit(server.digest, documents[0])
        gated.await_batch()
        server.signal()
        server.join()
        gated.let_pass()
        assert running.exception() is not None or running.result().status_code in (503, 504)


def command(*arguments: str, key: str | None = None) -> tuple[list[str], dict[str, str]]:
    environment = {name: value for name, value in os.environ.items() if name != API_KEY_VARIABLE}
    environment |= {"SMARTDEVDIGEST_PROFILE": "ci"} | ({API_KEY_VARIABLE: key} if key else {})
    return [sys.executable, "-m", "smartdevdigest_ops.cli", "serve", *arguments], environment


def test_sigterm_finishes_what_was_accepted_and_the_process_ends_well(model_dir, documents):
    arguments, environment = command("--port", "0", "--model", str(model_dir))
    process = subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "Serving model" in line:
            break
    url = re.search(r"http://127\.0\.0\.1:\d+", "".join(lines))
    assert url is not None, lines
    body = json.dumps(documents[:20]).encode()
    with httpx.Client(base_url=url[0], timeout=120) as client, ThreadPoolExecutor(1) as clients:
        running = clients.submit(
            client.post, "/v1/digest", content=body, headers={"Content-Type": "application/json"}
        )  # fmt: skip
        while "smartdevdigest_queued_documents 4.0" not in httpx.get(f"{url[0]}/metrics").text:
            assert not running.done()
        process.send_signal(signal.SIGTERM)
        results = running.result().raise_for_status().json()["results"]
    assert all(result["digest"] for result in results)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest


@pytest.mark.parametrize(
    ("host", "key", "said"),
    [
        ("0.0.0.0", None, "SMARTDEVDIGEST_API_KEY is not set"),
        ("0.0.0.0", "short", "holds 5 characters"),
        ("no.such.host.invalid", None, "is no address of this machine"),
    ],
)
def test_an_address_that_must_not_or_cannot_be_served_on_is_refused(model_dir, host, key, said):
    arguments, environment = command("--host", host, "--port", "0", "--model", str(model_dir), key=key)
    ended = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
