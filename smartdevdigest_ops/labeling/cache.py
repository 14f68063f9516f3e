"""Answers that were paid for, kept: one file per question, shared by all makings of a store.

The name is a hash of everything that decides the answer (the messages, by prompt version and document; the model; its
parameters), so a document is bought once, survives a kill the moment it is answered, and is bought again only when
the question changes.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from smartdevdigest_ops.artifacts import canonical_json, content_hash, write_atomically
from smartdevdigest_ops.labeling.prompt import PROMPT_VERSION, TeacherAnswer


@dataclass(frozen=True)
class AnswerCache:
    """Answers below one directory."""

    directory: Path

    def key(self, messages: list[dict[str, str]], model: str, parameters: dict[str, Any]) -> str:
        """Name of the answer to one question; the document's URL is no part of it."""
        return content_hash(
            canonical_json(
                {
                    "messages": messages,
                    "prompt_version": PROMPT_VERSION,
                    "model": model,
                    "parameters": parameters,
                }
            )
        )

    def get(self, key: str) -> TeacherAnswer | None:
        """The answer, if it was bought before and is still valid."""
        try:
            stored = json.loads(self._path(key).read_text(encoding="utf-8"))
            return TeacherAnswer.model_validate(stored["answer"])
        except (FileNotFoundError, ValidationError, ValueError, KeyError):
            return None

    def put(self, key: str, answer: TeacherAnswer, model: str) -> None:
        """Keep an answer."""
        stored = {"answer": answer.model_dump(), "model": model, "prompt_version": PROMPT_VERSION}
        write_atomically(self._path(key), json.dumps(stored, ensure_ascii=False, indent=1))

    def _path(self, key: str) -> Path:
        return self.directory / key[:2] / f"{key}.json"
