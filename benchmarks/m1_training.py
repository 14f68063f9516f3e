"""What the benchmarks of M1 share: texts, the project's trainer in a scratch store, what it works, what it scores."""

import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.models.devices import choose_device
from smartdevdigest_ops.models.embeddings import extend_embeddings
from smartdevdigest_ops.settings import Settings, load_settings
from smartdevdigest_ops.stage import StageContext
from smartdevdigest_ops.tokenizer.fertility import CODE, split_code
from smartdevdigest_ops.training.bits_per_byte import bits_per_byte
from smartdevdigest_ops.training.m1.adaptation import sequences_per_step
from smartdevdigest_ops.training.m1.general import find_general_files, read_general
from smartdevdigest_ops.training.m1.held_out import GENERAL_PREFIX
from smartdevdigest_ops.training.m1.objectives import build_objective
from smartdevdigest_ops.training.m1.stream import TrainingStream
from smartdevdigest_ops.training.packing import PackedDocuments, pack_documents
from smartdevdigest_ops.training.plan.memory import ModelShape, StepShape
from smartdevdigest_ops.training.plan.plan import operations_per_token
from smartdevdigest_ops.training.trainer.run import TrainingData, TrainingRun, count_steps, train

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def read_texts(corpus: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Texts to train on (the train split of a corpus_snapshot), and held-out ones (its test split) by language."""
    import pyarrow.parquet as pq

    train = pq.read_table(corpus / "train.parquet", columns=["content"])["content"].to_pylist()
    held_out: dict[str, list[str]] = {}
    for row in pq.read_table(corpus / "test.parquet", columns=["language", "content"]).to_pylist():
        held_out.setdefault(row["language"], []).append(row["content"])
    return train, dict(sorted(held_out.items()))


def read_general_texts() -> dict[str, list[str]]:
    """The held-out general text of the `sample` profile, by language, as `general_<language>`."""
    general = read_general(find_general_files(load_settings("sample").data.general_paths))
    found: dict[str, list[str]] = {}
    for document in general.held_out:
        found.setdefault(GENERAL_PREFIX + document.language, []).append(document.text)
    return dict(sorted(found.items()))


def read_held_out(corpus: Path) -> dict[str, list[str]]:
    """All that is scored: held-out texts by language, their code blocks as `code`, and the general text."""
    _, by_language = read_texts(corpus)
    code = [split_code(text)[1] for texts in by_language.values() for text in texts]
    return by_language | {CODE: [text for text in code if text.strip()]} | read_general_texts()


def scratch_settings(scratch: Path, m1: Mapping[str, Any], checkpoint_steps: int, precision: str) -> Settings:
    """The sample profile's settings with the store below `scratch`, and `m1` over its training.m1."""
    return load_settings(
        "sample",
        overrides={
            "store": {"root": str(scratch / "store")},
            "model": {"precision": precision},
            "training": {"m1": {"max_steps": None, "gradient_accumulation": 1, "epochs": 3} | dict(m1)},
            "tracking": {"checkpoint_steps": checkpoint_steps},
        },
    )


def scratch_context(
    scratch: Path,
    m1: Mapping[str, Any],
    *,
    quiet: bool = True,
    checkpoint_steps: int = 10**6,
    precision: str = "auto",
) -> StageContext:
    """A context outside any stage; checkpoints go below `scratch`, by default none: their time is no training."""
    settings = scratch_settings(scratch, m1, checkpoint_steps, precision)
    out, inner = scratch / "out", scratch / "scratch"
    out.mkdir(parents=True, exist_ok=True)
    inner.mkdir(parents=True, exist_ok=True)
    store = ArtifactStore(settings.store_dir)
    return StageContext(settings, {}, out, inner, store, None, (lambda line: None) if quiet else print)


def load_for_m1(
    base: Path, tokenizer_dir: Path | None, context: StageContext
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The model that M1 begins with, and its tokenizer; None: the base model's own.

    `tokenizer_dir` is a domain_tokenizer, whose new rows start as means, or a whole model whose rows were fitted.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

    set_seed(context.settings.seed)
    is_whole = tokenizer_dir is not None and (tokenizer_dir / "config.json").is_file()
    model = AutoModelForCausalLM.from_pretrained(tokenizer_dir if is_whole else base, dtype=torch.float32)
    if tokenizer_dir is not None and not is_whole:
        new_tokens = json.loads((tokenizer_dir / "new_tokens.json").read_text(encoding="utf-8"))
        extend_embeddings(model, new_tokens, own_tokenizer=AutoTokenizer.from_pretrained(base))
    model.to(choose_device(context.settings.model.device))
    return model, AutoTokenizer.from_pretrained(tokenizer_dir or base)


def pack(tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str], context: StageContext) -> PackedDocuments:
    """Packed as M1 packs them."""
    length = context.settings.training.m1.sequence_length
    assert length is not None
    return pack_documents(tokenizer, texts, sequence_length=length, seed=context.settings.seed)


def stream_of(
    packed: PackedDocuments, tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel", context: StageContext
) -> TrainingStream:
    """The sequences of a whole run in their order, as M1's stage draws them, without replay."""
    m1 = context.settings.training.m1
    num_sequences = count_steps(len(packed), m1, "m1_checkpoint") * sequences_per_step(m1)
    return TrainingStream(
        packed, num_sequences, context.settings.seed, objective=build_objective(m1, tokenizer, model.config)
    )


def train_packed(model: "PreTrainedModel", sequences: Any, context: StageContext) -> TrainingRun:
    """M1's trainer over a stream, or over any dataset, which is shuffled then; no choice of checkpoints."""
    m1 = context.settings.training.m1
    is_stream = isinstance(sequences, TrainingStream)
    if is_stream:  # it holds all passes
        m1 = m1.model_copy(update={"epochs": 1.0})
    return train(
        model,
        TrainingData(train=sequences, sequences_per_item=1, in_order=is_stream),
        stage="m1_checkpoint",
        settings=m1,
        context=context,
        embedding_learning_rate=m1.embedding_learning_rate,
    )


class TimeIsUp(Exception):
    """The time of a training is over; raised between two micro-steps."""


class Meter:
    """Tokens, micro-steps and seconds of a model's training, whoever trains it; ends it when its time is up.

    Seconds count from the first forward pass to the beginning of the last one, pauses not counted. On the CPU with one
    thread they are the processor's, which other work on the machine hardly changes; with more, the clock's. On a GPU
    they are the clock's once all that was asked of it is done: the processor only queues that, and waits or does not.
    """

    def __init__(self, model: "PreTrainedModel", seconds: float, *, skip: int = 0) -> None:
        """`skip`: micro-steps that are not counted, at the beginning."""
        self.tokens = 0
        """Padding not counted."""
        self.positions = 0
        """Padding counted."""
        self.micro_steps = 0
        self.seconds = 0.0
        self._limit = seconds
        self._device = model.device.type
        self._skip = skip
        self._started: float | None = None
        self._waiting = (0, 0)
        self._is_paused = False
        self._hook = model.register_forward_pre_hook(self._before_forward, with_kwargs=True)

    def _before_forward(self, model: Any, arguments: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        if not model.training or self._is_paused:
            return
        now = self._now()
        if self._skip:
            self._skip -= 1
            return
        if self._started is not None:
            self.seconds += now - self._started
            self.tokens += self._waiting[0]
            self.positions += self._waiting[1]
            self.micro_steps += 1
        if self.seconds >= self._limit:
            self._hook.remove()
            raise TimeIsUp
        self.between(model)
        self._started = self._now()
        ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        self._waiting = (int(ids.numel() if mask is None else mask.sum()), int(ids.numel()))

    def _now(self) -> float:
        if self._device == "cpu" and threads() == 1:
            return time.process_time()
        _synchronize(self._device)
        return time.perf_counter()

    def between(self, model: Any) -> None:
        """Called between two micro-steps; its time is not counted."""

    def stop(self) -> None:
        """Count no more."""
        self._hook.remove()


def score(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    held_out: Mapping[str, Sequence[str]],
    *,
    sequence_length: int,
    max_documents: int,
    max_characters: int,
) -> dict[str, float]:
    """Bits per byte by language, of the first documents and characters."""
    return {
        language: bits_per_byte(
            model, tokenizer, [text[:max_characters] for text in texts[:max_documents]], sequence_length=sequence_length
        )
        for language, texts in held_out.items()
    }


def matrix_product_limit(
    device: str, seconds: float = 2.0, size: int | None = None, dtype: "torch.dtype | None" = None
) -> float:
    """Floating-point operations per second of a large square matrix product.

    In float32 on the CPU and in bfloat16 on cuda, unless `dtype` says otherwise.

    The best of those that fit into the time: the limit is what the machine can do, not what it does on average.
    """
    import torch

    dtype = dtype or (torch.bfloat16 if device == "cuda" else torch.float32)
    size = size or (8192 if device == "cuda" else 1536)
    a_NN, b_NN = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out_NN = torch.empty_like(a_NN)
    best = math.inf
    until = time.perf_counter() + seconds
    torch.mm(a_NN, b_NN, out=out_NN)
    while True:
        _synchronize(device)
        start = time.perf_counter()
        torch.mm(a_NN, b_NN, out=out_NN)
        _synchronize(device)
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() > until:
            return 2 * size**3 / best


def _synchronize(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def flops_per_token(shape: ModelShape, sequence_length: int) -> float:
    """What full training needs (training/plan/plan.py): recomputation counts as no work."""
    return operations_per_token(shape, StepShape("full", 1, sequence_length, False, "float32"))


def threads() -> int:
    """CPUs that this process may use."""
    return int(os.environ.get("OMP_NUM_THREADS", 0)) or len(os.sched_getaffinity(0))
