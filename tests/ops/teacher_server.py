"""A teacher's endpoint on the loopback interface: chat completions, files and batches, and all that can go wrong.

`TeacherEndpoint` is the endpoint's memory and outlives its server, which can be stopped and started again on the same
port. What the endpoint delivered whole and valid is counted by document: none may be delivered twice.
"""

import contextlib
import hashlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = (
    "429",
    "500",
    "503_without_body",
    "time_out",
    "cut_off",
    "no_answer",
    "cut_json_body",
    "cut_label",
    "no_label",
)
CALL_FAULTS = ("429", "500", "503_without_body", "no_answer", "answer_lost", "answer_cut_off")
"""Of calls about files and batches; the last two are done before their answer is lost."""
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 40,
    "total_tokens": 140,
    "prompt_tokens_details": {"cached_tokens": 60},
}


def label_of(document: dict[str, Any]) -> dict[str, Any]:
    """A sound label of a document, made of its own words: what a teacher that never errs answers."""
    words = sorted({word.strip(".,:;()`#*\"'") for word in document["content"].split()} - {""}, key=len)[-5:]
    level = int(hashlib.sha256(document["content"].encode()).hexdigest(), 16) % 5 + 1
    korean = document["language"] == "ko"
    return {
        "summary": f"여러 주제를 차례로 다룬다 ({level})."
        if korean
        else f"It treats several things in turn ({level}).",
        "keywords": words,
        "difficulty_factors": {
            "technical_terms": level,
            "concept_complexity": level,
            "background_knowledge": max(1, level - 1),
            "code_complexity": level if "```" in document["content"] else None,
        },
        "prerequisites": [],
        "technical_terms": [{"term": words[0], "explanation": "설명." if korean else "An explanation."}],
    }


def make_rows(number: int, **changes: Any) -> list[dict[str, Any]]:
    """Short English documents, each with an id in the order of its number."""
    return [
        {
            "document_id": f"{index:04d}",
            "title": None,
            "content": f"Document {index}: a container shares the kernel of its host.",
            "language": "en",
        }
        | changes
        for index in range(number)
    ]


def outcomes_of(run: Any) -> list[Any]:
    """What came of each document of a LabelRun, by id."""
    return [run.first[key].outcome for key in sorted(run.first)]


def seeded_faults(seed: int, share: float = 0.3) -> Callable[[str, int], str | None]:
    """Faults of `share` of the requests, fixed by the document and how often it was asked about, not by time."""

    def fault(content: str, attempt: int) -> str | None:
        draw = hashlib.sha256(f"{seed} {attempt} {content}".encode()).digest()
        return FAULTS[draw[4] % len(FAULTS)] if int.from_bytes(draw[:4]) < share * 2**32 else None

    return fault


class TeacherEndpoint:
    """What the endpoint was asked, how it answers, and what it delivered."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.requests: list[dict[str, Any]] = []
        """Chat completions: {"key", "body"}."""
        self.replies: list[tuple[int, dict[str, str], Any]] = []
        """Scripted replies, in turn, the last one for ever; none: `answer` answers."""
        self.answer: Callable[[dict[str, Any]], Any] = label_of
        self.fault: Callable[[str, int], str | None] = lambda content, attempt: None
        self.call_fault: Callable[[int], str | None] = lambda number: None
        """Of the calls about files and batches, by their number."""
        self.num_calls = 0
        self.takes_json_schema = True
        self.attempts: Counter[str] = Counter()
        """By content of the document."""
        self.delivered: Counter[str] = Counter()
        """Whole and valid labels, by content of the document."""
        self.faults_given: Counter[str] = Counter()
        self.on_delivery: Callable[[int], None] = lambda number: None
        self.before_answer: Callable[[], None] = lambda: None
        self.files: dict[str, bytes] = {}
        self.batches: list[dict[str, Any]] = []
        self.batch_outcomes: list[str] = []
        """How the next batches end: completed (also when the list is empty), expired, failed, queue_is_full."""
        self.polls_until_done = 1
        self.after_batch_is_created: Callable[[], None] = lambda: None
        self._port = 0
        self._server: _Server | None = None
        self.start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [request["body"] for request in self.requests]

    def start(self) -> None:
        self._server = _Server(self, self._port)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """As a process that ends: nobody listens, open connections are cut; no answer of it is half delivered."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.cut_connections()
            self._thread.join()
            self._server = None

    def reply(
        self,
        content: Any,
        status: int = 200,
        headers: dict[str, str] | None = None,
        usage: dict[str, Any] | None = None,
        **choice: Any,
    ) -> None:
        """Script a reply: a chat completion with this text (JSON of it), or an error's body."""
        body = completion(content, **choice) | {"usage": usage or USAGE} if status == 200 else content
        self.replies.append((status, headers or {}, body))

    def take_batch_answers(self, batch: dict[str, Any], outcome: str) -> None:
        """Answer the lines of a batch: all of them, or the first half where it expires."""
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].decode().splitlines()]
        done = lines[: len(lines) // 2] if outcome == "expired" else lines
        output, errors = [], []
        for line in done:
            document = json.loads(line["body"]["messages"][1]["content"])
            self.attempts[document["content"]] += 1
            fault = self.fault(document["content"], self.attempts[document["content"]])
            self.faults_given[fault or "none"] += 1
            if line["body"].get("response_format", {}).get("type") == "json_schema" and not self.takes_json_schema:
                errors.append({"custom_id": line["custom_id"], "response": {"status_code": 400, "body": NO_SCHEMA}})
            elif fault == "429":  # as if the endpoint had lost it
                continue
            elif fault in ("cut_label", "no_label") or fault is None:
                content = damaged(self.answer(document), fault)
                if fault is None:
                    self.delivered[document["content"]] += 1
                response = {"status_code": 200, "request_id": "r", "body": completion(content)}
                output.append({"id": "x", "custom_id": line["custom_id"], "response": response, "error": None})
            else:
                response = {"status_code": 500, "body": {"error": {"message": "broken", "code": "server_error"}}}
                errors.append({"id": "x", "custom_id": line["custom_id"], "response": response, "error": None})
        for name, found in (("output_file_id", output), ("error_file_id", errors)):
            if found:
                batch[name] = f"file-{len(self.files)}"
                self.files[batch[name]] = "".join(json.dumps(one) + "\n" for one in reversed(found)).encode()


NO_SCHEMA = {
    "error": {"message": "Invalid parameter: 'response_format' of type 'json_schema' is not supported.", "code": None}
}


def completion(content: Any, **choice: Any) -> dict[str, Any]:
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    message = {"role": "assistant", "content": text}
    return {
        "id": "1", "object": "chat.completion", "created": 1, "model": "teacher",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message} | choice], "usage": USAGE,
    }  # fmt: skip


def damaged(label: Any, fault: str | None) -> Any:
    """The label as it is, cut off in the middle, or with a digit that the scale does not have."""
    if fault == "cut_label":
        text = json.dumps(label, ensure_ascii=False)
        return text[: len(text) // 2]
    return label | {"difficulty_factors": {"technical_terms": 9}} if fault == "no_label" else label


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, endpoint: TeacherEndpoint, port: int) -> None:
        self.endpoint = endpoint
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def cut_connections(self) -> None:
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: Any) -> None:
        """Connections that a test cut are no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    _lost: str | None = None
    """How the answer of the call at hand is lost."""

    def setup(self) -> None:
        self.server.connections.add(self.request)
        super().setup()

    def finish(self) -> None:
        self.server.connections.discard(self.request)
        with contextlib.suppress(OSError):
            super().finish()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/chat/completions":
            self._complete(json.loads(body))
        elif self._fails_before_it_is_done():
            return
        elif self.path == "/v1/files":
            self._take_file(body)
        elif self.path == "/v1/batches":
            self._take_batch(json.loads(body))
        else:
            self._send(404, {"error": {"message": "no such path"}})

    def do_GET(self) -> None:
        endpoint = self.server.endpoint
        path, _, _ = self.path.partition("?")
        if self._fails_before_it_is_done():
            return
        if path == "/v1/batches":
            with endpoint.lock:
                self._send(200, {"object": "list", "data": endpoint.batches[::-1], "has_more": False})
        elif path.startswith("/v1/batches/"):
            self._show_batch(path.rsplit("/", 1)[1])
        else:
            self._send_bytes(200, endpoint.files[path.split("/")[3]], {"Content-Type": "application/octet-stream"})

    def _fails_before_it_is_done(self) -> bool:
        """Whether a call about files or batches was answered with a fault; one that only loses the answer is noted."""
        endpoint = self.server.endpoint
        with endpoint.lock:
            fault = endpoint.call_fault(endpoint.num_calls)
            endpoint.num_calls += 1
            endpoint.faults_given[f"call: {fault}"] += fault is not None
        self._lost = fault if fault in ("answer_lost", "answer_cut_off") else None
        if fault is None or self._lost:
            return False
        if fault == "no_answer":
            self._cut()
        elif fault == "503_without_body":
            self._send_bytes(503, b"", {})
        else:
            self._send(int(fault), {"error": {"message": "not now"}}, {"Retry-After": "0"})
        return True

    def _complete(self, body: dict[str, Any]) -> None:
        endpoint = self.server.endpoint
        with endpoint.lock:
            endpoint.requests.append({"key": self.headers["Authorization"], "body": body})
            if endpoint.replies:
                scripted = endpoint.replies.pop(0) if len(endpoint.replies) > 1 else endpoint.replies[0]
                status, headers, reply = scripted
        if endpoint.replies:
            self._send(status, reply, headers)
            return
        if body.get("response_format", {}).get("type") == "json_schema" and not endpoint.takes_json_schema:
            self._send(400, NO_SCHEMA)
            return
        endpoint.before_answer()
        document = json.loads(body["messages"][1]["content"])
        with endpoint.lock:
            endpoint.attempts[document["content"]] += 1
            attempt = endpoint.attempts[document["content"]]
        fault = endpoint.fault(document["content"], attempt)
        with endpoint.lock:
            endpoint.faults_given[fault or "none"] += 1
        self._answer(document, fault)

    def _answer(self, document: dict[str, Any], fault: str | None) -> None:
        endpoint = self.server.endpoint
        data = json.dumps(completion(damaged(endpoint.answer(document), fault))).encode()
        if fault == "429":
            self._send(429, {"error": {"message": "slow down"}}, {"Retry-After": "0"})
        elif fault == "500":
            self._send(500, {"error": {"message": "broken"}}, {"retry-after-ms": "1"})
        elif fault == "503_without_body":
            self._send_bytes(503, b"", {})
        elif fault == "time_out":
            self.rfile.read(1)  # until the client goes away
            self.close_connection = True
        elif fault == "no_answer":
            self._cut()
        elif fault == "cut_off":
            self._send_bytes(200, data[: len(data) // 2], {"Content-Length": str(len(data))})
            self._cut()
        elif fault == "cut_json_body":
            self._send_bytes(200, data[: len(data) // 2], {"Content-Type": "application/json"})
        else:
            self._send_bytes(200, data, {"Content-Type": "application/json"})
            if fault is None:
                with endpoint.lock:
                    endpoint.delivered[document["content"]] += 1
                    number = endpoint.delivered.total()
                endpoint.on_delivery(number)

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _take_file(self, body: bytes) -> None:
        endpoint = self.server.endpoint
        boundary = self.headers["Content-Type"].partition("boundary=")[2].encode()
        part = next(part for part in body.split(b"--" + boundary) if b"filename=" in part)
        with endpoint.lock:
            name = f"file-{len(endpoint.files)}"
            endpoint.files[name] = part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        self._send(
            200, {"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "f", "purpose": "batch"}
        )

    def _take_batch(self, body: dict[str, Any]) -> None:
        endpoint = self.server.endpoint
        with endpoint.lock:
            batch = {
                "id": f"batch_{len(endpoint.batches)}", "object": "batch", "status": "validating", "created_at": 1,
                "endpoint": body["endpoint"], "completion_window": "24h", "input_file_id": body["input_file_id"],
                "metadata": body["metadata"], "polls": 0, "key": self.headers["Authorization"],
            }  # fmt: skip
            endpoint.batches.append(batch)
        endpoint.after_batch_is_created()
        self._send(200, batch)

    def _show_batch(self, name: str) -> None:
        endpoint = self.server.endpoint
        with endpoint.lock:
            batch = next((batch for batch in endpoint.batches if batch["id"] == name), None)
            if batch is None:
                self._send(404, {"error": {"message": "no such batch"}})
                return
            batch["polls"] += 1
            if batch["status"] == "validating" and batch["polls"] >= endpoint.polls_until_done:
                outcome = endpoint.batch_outcomes.pop(0) if endpoint.batch_outcomes else "completed"
                batch["status"] = "failed" if outcome == "queue_is_full" else outcome
                if batch["status"] == "failed":
                    code = "token_limit_exceeded" if outcome == "queue_is_full" else "invalid_file"
                    batch["errors"] = {
                        "object": "list",
                        "data": [{"code": code, "message": f"refused: {batch['key']}"}],
                    }
                else:
                    endpoint.take_batch_answers(batch, outcome)
            self._send(200, batch)

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self._send_bytes(status, json.dumps(body).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def _send_bytes(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        if self._lost == "answer_lost":
            self._cut()
            return
        if self._lost == "answer_cut_off":
            headers = {"Content-Length": str(len(data))} | headers
            data = data[: len(data) // 2]
            self.close_connection = True
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""
