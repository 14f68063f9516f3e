"""A scratch store in which candidates are published and taken to the gate."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts import Artifact, ArtifactStore, Making
from smartdevdigest_ops.release import read_release
from smartdevdigest_ops.settings import Settings, load_settings

Run = Callable[..., Making]
CHECKS = {
    "quantized_model": {
        "name": "bits_per_byte_increase_bounded",
        "passed": True,
        "blocking": True,
        "message": "bits per byte ko 1.000 -> 1.010 (+0.010); at most +0.05 is accepted.",
        "metadata": {"increase_ko": 0.01},
    },
    "evaluation_report": {
        "name": "no_test_document_in_train",
        "passed": True,
        "blocking": True,
        "message": "0 of 4 test documents are in the train split.",
        "metadata": {},
    },
}


def entry(mean: float, width: float = 0.01, n: int = 30) -> dict[str, Any]:
    return {"mean": mean, "low": mean - width, "high": mean + width, "n": n}


def report_of(
    rouge: float = 0.3,
    keywords: float = 0.4,
    error: float = 0.8,
    valid: float = 1.0,
    paired: dict[str, Any] | None = None,
) -> dict[str, Any]:
    fields = {"rougeL": entry(rouge), "keyword_f1": entry(keywords), "difficulty_mae": entry(error)}
    return {
        "languages": {language: {"candidate": fields} for language in ("en", "ko")},
        "valid_json_rate": {"candidate": entry(valid, 0.0)},
        "comparisons": {language: {"release": {"rougeL": paired}} if paired else {} for language in ("en", "ko")},
    }


class Graph:
    """A scratch store in which candidates are published and taken to the gate."""

    def __init__(self, root: Path, run: Run) -> None:
        self.store = ArtifactStore(root / "store")
        self.settings = self.with_fields("rougeL", "keyword_f1", "difficulty_mae")
        self._run = run
        self._scratch = root
        self._count = 0

    def with_fields(self, *fields: str) -> Settings:
        release = {"fields": fields, "tolerance": 0.02}
        return load_settings("ci", overrides={"store": {"root": str(self.store.root)}, "release": release})

    def publish(self, asset: str, name: str, content: str, **inputs: str) -> Artifact:
        self._count += 1
        staged = self._scratch / f"staged-{self._count}"
        staged.mkdir()
        (staged / name).write_text(content, encoding="utf-8")
        artifact = self.store.publish(staged, asset)
        self.store.record(
            Making(asset, None, artifact.version, f"{self._count:016x}", inputs, {}, "1", {}, {}, {}, [CHECKS[asset]])
        )
        return artifact

    def gate(self, model: str, settings: Settings | None = None, **figures: Any) -> tuple[Making, dict[str, Any]]:
        inputs = {name: figures.pop(name) for name in list(figures) if name.startswith("file:")}
        inputs["quantized_model"] = self.publish("quantized_model", "weights.txt", model).version
        self.publish("evaluation_report", "report.json", json.dumps(report_of(**figures)), **inputs)
        making = self._run("release", settings or self.settings)
        return making, read_release(self.store.open("release", making.version))
