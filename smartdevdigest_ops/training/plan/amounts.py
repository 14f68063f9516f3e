"""How much a run reads, and the labels that it learns from: tokens of the corpus, labels and what they cost at most."""

from collections.abc import Sequence
from pathlib import Path

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.settings import Settings, resolve_path
from smartdevdigest_ops.training.bits_per_byte import encode_documents
from smartdevdigest_ops.training.plan.memory import PlanError


def corpus_tokens(settings: Settings, num_tokens: int | None, num_documents: int | None) -> tuple[int, str] | None:
    """Tokens of one pass over the train split, and where the number is from; None where nothing says it.

    `num_tokens` decides, else the current corpus_snapshot, scaled to `num_documents` where that is given.
    """
    if num_tokens is not None:
        return num_tokens, "as given"
    store = ArtifactStore(settings.store_dir)
    corpus, tokenizer = store.current("corpus_snapshot"), store.current("domain_tokenizer")
    if corpus is None or tokenizer is None:
        return None
    tokenizer.refuse_damage()
    documents, tokens, sampled = _sample_tokens(corpus.sound_file("train.parquet"), tokenizer.path)
    count = num_documents or documents
    return round(count * tokens), f"{count:,} documents of {tokens:.0f} tokens on average, of {sampled} tokenized"


def _sample_tokens(train: Path, tokenizer_dir: Path, most_row_groups: int = 4) -> tuple[int, float, int]:
    """Documents of the split, and the mean tokens of those of some row groups spread over it."""
    import pyarrow.parquet as pq
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    with pq.ParquetFile(train) as file:
        groups = range(0, file.num_row_groups, max(1, file.num_row_groups // most_row_groups))
        texts = [text for group in groups for text in file.read_row_group(group, ["content"])["content"].to_pylist()]
        lengths = [len(ids) + 1 for ids in encode_documents(tokenizer, texts)]
        return file.metadata.num_rows, sum(lengths) / max(1, len(lengths)), len(lengths)


def count_labels(settings: Settings, num_documents: int | None) -> tuple[int, int]:
    """Labels that M2 learns from, and how many of them a teacher is to give."""
    recorded = sum(_count_lines(resolve_path(path)) for path in settings.data.label_paths)
    if settings.labeling.teacher == "recorded":
        return recorded, 0
    labeling = settings.labeling
    bought = (labeling.local if labeling.teacher == "local" else labeling.openai).max_documents
    if num_documents is not None:
        bought = min(bought, max(0, num_documents - recorded))
    return recorded + bought, bought


def _count_lines(file: Path) -> int:
    if not file.is_file():
        raise PlanError(f"data.label_paths names {file}, which is not a file, so the labels cannot be counted.")
    with file.open("rb") as stream:
        return sum(1 for line in stream if line.strip())


def label_cost(settings: Settings, num_bought: int, price: Sequence[float] | None) -> str:
    """What the labels cost at a `price` of (input, output) per million tokens: at most, as all documents are full."""
    if num_bought == 0:
        return "labels: none to buy."
    if settings.labeling.teacher == "local":
        return f"labels: {num_bought:,} documents for {settings.labeling.local.model} on this machine, at no price."
    characters = settings.labeling.openai.max_document_characters
    # An upper bound: a teacher's tokenizer takes at most about one token per character of Korean.
    inputs, outputs = num_bought * characters, num_bought * settings.digesting.max_new_tokens
    text = (
        f"labels: {num_bought:,} documents for {settings.labeling.openai.model}, at most {inputs / 1e6:.1f} M tokens "
        f"in (max_document_characters, one token a character) and {outputs / 1e6:.1f} M out (max_new_tokens)"
    )
    prices = settings.labeling.openai.price
    if price is None and prices.input_per_million is not None and prices.output_per_million is not None:
        price = (prices.input_per_million, prices.output_per_million)
    if price is None:
        return f"{text}; for their cost give --label-price IN OUT, or set labeling.openai.price."
    return f"{text}: at most {(inputs * price[0] + outputs * price[1]) / 1e6:,.2f} in the price's currency."
