"""Held-out texts by group (a language, or `general_` and a language), and the bits per byte of models on them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from smartdevdigest_ops.artifacts import write_atomically
from smartdevdigest_ops.training.bits_per_byte import bits_per_byte
from smartdevdigest_ops.training.trainer.sharding import is_sharded, reshard

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from smartdevdigest_ops.stage import StageContext

GENERAL_PREFIX = "general_"


def texts_by_language(
    documents: Iterable[tuple[str, str]], max_documents: int, max_characters: int
) -> dict[str, list[str]]:
    """Of (language, text): per language that occurs, the first `max_documents` texts, cut to `max_characters`.

    The documents are gone through once: a split in hash order gives a sample, whatever its size.
    """
    texts: dict[str, list[str]] = {}
    for language, text in documents:
        of_language = texts.setdefault(language, [])
        if len(of_language) < max_documents:
            of_language.append(text[:max_characters])
    return dict(sorted(texts.items()))


class HeldOut:
    """Bits per byte by group. What was measured before a kill is not measured again.

    A model in parts is measured by all processes together, each over all texts. They agree on what is left to
    measure: what one has written, all have computed, and each reads the file before its first measurement.
    """

    def __init__(
        self, texts: Mapping[str, list[str]], *, sequence_length: int, batch_size: int, context: "StageContext"
    ) -> None:
        self.texts = texts
        self._sequence_length = sequence_length
        self._batch_size = batch_size
        self._log = context.log
        self._file: Path = context.scratch / "bits_per_byte.json"
        self._scores: dict[str, dict[str, float]] = (
            json.loads(self._file.read_text(encoding="utf-8")) if self._file.is_file() else {}
        )

    def __contains__(self, name: str) -> bool:
        return name in self._scores

    def measure(self, name: str, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> dict[str, float]:
        """Bits per byte by group of `model`, known as `name` in the log."""
        if name not in self._scores:
            self._scores[name] = {
                group: bits_per_byte(
                    model, tokenizer, texts, sequence_length=self._sequence_length, batch_size=self._batch_size
                )
                for group, texts in self.texts.items()
            }
            if is_sharded(model):
                reshard(model)
            write_atomically(self._file, json.dumps(self._scores))
        return self.take(name)

    def take(self, name: str, of: str | None = None) -> dict[str, float]:
        """What was measured before as `of`, taken as `name`'s."""
        self._scores[name] = self._scores[of or name]
        found = ", ".join(f"{group} {value:.3f}" for group, value in self._scores[name].items())
        self._log(f"m1_checkpoint: bits per byte, {name}: {found or 'no held-out documents'}")
        return self._scores[name]


def of_corpus(scores: Mapping[str, float]) -> dict[str, float]:
    """The groups of the corpus: its languages."""
    return {group: value for group, value in scores.items() if not group.startswith(GENERAL_PREFIX)}


def of_general(scores: Mapping[str, float]) -> dict[str, float]:
    """The groups of general text, by language."""
    return {
        group.removeprefix(GENERAL_PREFIX): value for group, value in scores.items() if group.startswith(GENERAL_PREFIX)
    }


def scores_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown table of bits per byte: groups down, states of the model across."""
    groups = sorted({group for row in scores.values() for group in row}, key=lambda group: (len(group) > 2, group))
    lines = [f"| bits per byte | {' | '.join(scores)} |", "|---" * (len(scores) + 1) + "|"]
    lines += [
        f"| {group.replace('_', ' ')} | {' | '.join(f'{row[group]:.3f}' for row in scores.values())} |"
        for group in groups
    ]
    return "\n".join(lines)
