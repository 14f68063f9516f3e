"""A judge's endpoint on the loopback interface: it judges by a rule computed from what it was asked.

Its honest rule goes by runs of three characters, in any language: faithful is what stands in the document or the
reference, covered is what the summary has of the reference, or of the document where there is none.
"""

import hashlib
import json
import math
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 1000, "completion_tokens": 1, "total_tokens": 1001}
Rule = Callable[[str, dict[str, Any]], float]
"""System message and data -> expected digit."""


def _runs(text: str | None) -> set[str]:
    folded = " ".join((text or "").split()).casefold()
    return {folded[start : start + 3] for start in range(len(folded) - 2)}


def _faithful(data: dict[str, Any], summary: str) -> float:
    found, source = _runs(summary), _runs(data["document"]) | _runs(data["reference"])
    return len(found & source) / max(1, len(found))


def _covered(data: dict[str, Any], summary: str) -> float:
    wanted = _runs(data["reference"] or data["document"])
    return len(wanted & _runs(summary)) / max(1, len(wanted))


def honest(system: str, data: dict[str, Any]) -> float:
    """1-5 by the rule above, or which of two summaries is more faithful, and where they are alike, says more."""
    if "summary" in data:
        quality = _faithful if "Faithfulness:" in system else _covered
        return 1 + 4 * quality(data, data["summary"])
    first, second = (
        (round(_faithful(data, data[name]), 2), _covered(data, data[name])) for name in ("summary_1", "summary_2")
    )
    return 1.1 if first > second else 1.9


def takes_the_first(system: str, data: dict[str, Any]) -> float:
    """A judge that finds everything perfect, and the first of two better."""
    return 5.0 if "summary" in data else 1.0


class JudgeEndpoint:
    """What the endpoint was asked, and how it answers."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.bodies: list[dict[str, Any]] = []
        self.rule: Rule = honest
        self.most_logprobs = 20
        """As top_logprobs takes it; 0: logprobs are refused."""
        self.ignores_logprobs = False
        self.error: tuple[int, str] | None = None
        """Status and message of every reply."""
        self.goes_away_after: int | None = None
        """So many requests."""
        self.replies: list[str] = []
        """Texts of the next replies, in turn, without logprobs."""
        self._server = _Server(self)
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reply(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self.lock:
            self.bodies.append(body)
            scripted = self.replies.pop(0) if self.replies else None
        if self.goes_away_after is not None and len(self.bodies) > self.goes_away_after:
            return 503, {"error": {"message": "going down"}}
        if self.error is not None:
            return self.error[0], {"error": {"message": self.error[1]}}
        if body.get("top_logprobs", 0) > self.most_logprobs:
            return 400, {"error": {"message": "Unsupported value: 'top_logprobs'.", "param": "top_logprobs"}}
        if scripted is not None:
            return 200, _completion(scripted, None)
        system, data = body["messages"][0]["content"], json.loads(body["messages"][1]["content"])
        expected = self.rule(system, data)
        low = math.floor(expected)
        probabilities = {str(low): 1 - (expected - low)} | ({str(low + 1): expected - low} if expected > low else {})
        # A draw that the seed and the question decide.
        text = json.dumps([body.get("seed"), body["messages"]])
        draw = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) / 2**32
        written = str(low) if draw < 1 - (expected - low) else str(low + 1)
        asked = body.get("logprobs") and not self.ignores_logprobs
        return 200, _completion(written, probabilities if asked else None)


def _completion(text: str, probabilities: dict[str, float] | None) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    if probabilities is not None:
        top = [{"token": token, "logprob": math.log(p), "bytes": None} for token, p in probabilities.items() if p > 0]
        top += [{"token": "The", "logprob": -9.5, "bytes": None}]
        own = next((one["logprob"] for one in top if one["token"] == text), -20.0)
        choice["logprobs"] = {"content": [{"token": text, "logprob": own, "bytes": None, "top_logprobs": top}]}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "j", "choices": [choice], "usage": USAGE}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, endpoint: JudgeEndpoint) -> None:
        self.endpoint = endpoint
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, reply = self.server.endpoint.reply(body)
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""
