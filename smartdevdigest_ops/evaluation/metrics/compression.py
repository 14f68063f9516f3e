"""Bits per byte of test documents through the stages: base, M1, and the quantized model that is served.

Comparable between models of different vocabularies, which loss per token is not. The figure of a language is total
bits over total bytes, so a long document counts by its length; its interval resamples clusters of documents.
"""

import gc
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap
from smartdevdigest_ops.models.devices import choose_device, choose_dtype, use_threads
from smartdevdigest_ops.quantization.load import load_for_inference
from smartdevdigest_ops.settings import ModelSettings
from smartdevdigest_ops.training.bits_per_byte import bits_per_byte

# A paper runs to 100,000 characters and would be most of the figure and of the time: SmolLM2-135M takes 3 CPU seconds
# per KB of Korean and 0.7 of English.
MOST_CHARACTERS = 2000


@dataclass(frozen=True)
class MeasuredText:
    """The beginning of a test document."""

    language: str
    text: str
    sampling_unit: str
    """Its near-duplicate cluster, or its URL where it stands alone: drawn as one in resamples."""


def document_bits(
    model_dir: Path, texts: Sequence[str], *, model_settings: ModelSettings, name: str, journal: Path
) -> list[float]:
    """Bits of each text under the model in `model_dir`; taken from `journal` where an earlier try finished them."""
    if journal.is_file():
        finished: list[float] = json.loads(journal.read_text(encoding="utf-8"))
        return finished
    from transformers import AutoTokenizer

    use_threads(model_settings.threads)
    device = choose_device(model_settings.device)
    dtype = choose_dtype(model_settings.precision, device)
    model = load_for_inference(model_dir, device=device, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
    bits = [
        len(text.encode()) * bits_per_byte(model, tokenizer, [text], sequence_length=model_settings.max_length)
        for text in tqdm(texts, desc=f"bits per byte of {name}", unit="document")
    ]
    del model
    gc.collect()  # two models at once would double the peak
    partial = journal.with_suffix(".partial")
    partial.write_text(json.dumps(bits), encoding="utf-8")
    partial.replace(journal)
    return bits


def choose_texts(rows: Sequence[Mapping[str, Any]], max_documents: int) -> list[MeasuredText]:
    """Texts of the first `max_documents` rows per language, in the snapshot's order (by document id)."""
    chosen: list[MeasuredText] = []
    for language in sorted({row["language"] for row in rows}):
        of_language = [row for row in rows if row["language"] == language][:max_documents]
        chosen += [
            MeasuredText(language, row["content"][:MOST_CHARACTERS], row.get("cluster") or row["url"])
            for row in of_language
        ]
    return chosen


def bits_per_byte_by_language(
    texts: Sequence[MeasuredText], bits: Sequence[float], bootstrap: Bootstrap
) -> dict[str, dict[str, float | int | None]]:
    """Language -> total bits / total bytes, with its interval."""
    table = {}
    for language in sorted({each.language for each in texts}):
        of_language = [
            (bits_of_text, len(each.text.encode()), each.sampling_unit)
            for each, bits_of_text in zip(texts, bits, strict=True)
            if each.language == language
        ]
        table[language] = bootstrap.ratio(*map(list, zip(*of_language, strict=True))).as_dict()
    return table
