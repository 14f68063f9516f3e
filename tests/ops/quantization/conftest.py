"""A tiny model quantized, and what it is quantized with: made once, by the real packages."""

import json
from pathlib import Path

import pytest

from smartdevdigest_ops.contracts import CrawlRecord, Label
from smartdevdigest_ops.settings import QuantizationSettings

GROUP_SIZE = 32


@pytest.fixture(scope="session")
def labeled_rows(sample_documents: list[CrawlRecord], sample_labels: dict[str, Label]) -> list[dict[str, object]]:
    """Rows as of labeled_pairs/train.parquet, all 80 documents."""
    return [
        {
            "document_id": f"{number:04d}",
            "url": document.url,
            "language": document.language,
            "title": document.title,
            "content": document.content,
            "source_type": document.source_type,
            "label": sample_labels[document.url].model_dump_json(),
        }
        for number, document in enumerate(sample_documents)
    ]


@pytest.fixture(scope="session")
def calibration_sequences(tiny_base_model: Path, sample_documents: list[CrawlRecord]) -> list[list[int]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
    return [tokenizer(document.content)["input_ids"][:128] for document in sample_documents[:4]]


@pytest.fixture(scope="session")
def tiny_quantized(
    tiny_base_model: Path, calibration_sequences: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny model in the GPTQ layout, by gptqmodel."""
    from smartdevdigest_ops.quantization.gptq import quantize_gptq

    home = tmp_path_factory.mktemp("tiny_quantized")
    report = quantize_gptq(
        tiny_base_model,
        home / "model",
        calibration_sequences,
        QuantizationSettings(group_size=GROUP_SIZE),
        device="cpu",
        threads=1,
        log_file=home / "gptq.log",
    )
    (home / "report.json").write_text(json.dumps(report.as_json()))
    return home / "model"
