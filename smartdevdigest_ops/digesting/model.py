"""A model that digests: loaded from a directory that says itself how it is to be asked."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from smartdevdigest_ops.contracts import Digest
from smartdevdigest_ops.digesting.answer import Corrections, make_digest
from smartdevdigest_ops.digesting.errors import DigestingError
from smartdevdigest_ops.digesting.generate import AnswerGenerator, Question
from smartdevdigest_ops.digesting.prompt import PROMPT_VERSION, Prompt, PromptError, build_prompt
from smartdevdigest_ops.digesting.sections import has_code
from smartdevdigest_ops.digesting.writer import AnswerGuide
from smartdevdigest_ops.models.devices import choose_device, choose_dtype, use_threads
from smartdevdigest_ops.quantization.load import load_for_inference
from smartdevdigest_ops.settings import DigestingSettings, Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DIGEST_CONFIG = "digest_config.json"
# Of a model that came without a digest_config.json.
_DEFAULT_MAX_LENGTH = 1024
# Documents are sorted by length within so many batches: enough to keep padding low, without reading all of them first.
_BATCHES_PER_WINDOW = 16


class Document(Protocol):
    """What is digested: a crawl record, or anything with these."""

    @property
    def title(self) -> str | None:
        """Title, if there is one."""

    @property
    def content(self) -> str:
        """Body as text or Markdown."""

    @property
    def language(self) -> Any:
        """Language of the document and so of the digest: ko or en."""


@dataclass(frozen=True)
class DigestOutcome:
    """What came of one document."""

    index: int
    """Place of the document in the sequence that was given."""
    digest: Digest | None
    raw_answer: dict[str, Any] | None
    """The JSON object as the model wrote it, with the likeliest digits."""
    covered_share: float
    """Share of the content that the prompt holds."""
    num_new_tokens: int
    seconds: float
    """This document's part of its batch's wall time: documents of a batch are not timed apart, so an equal one."""
    corrections: Corrections = field(default_factory=Corrections)
    error: str | None = None
    """Why there is no digest."""

    @property
    def valid(self) -> bool:
        """Whether there is a digest of the contract."""
        return self.digest is not None


@dataclass(frozen=True)
class DigestConfig:
    """How a model is asked: what `digest_config.json` holds."""

    max_length: int
    digesting: DigestingSettings


def write_digest_config(out: Path, settings: Settings) -> None:
    """Write `digest_config.json` beside a model, so that it answers without the project's settings."""
    config = {
        "prompt_version": PROMPT_VERSION,
        "max_length": settings.model.max_length,
        "digesting": settings.digesting.model_dump(mode="json"),
    }
    (out / DIGEST_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read_digest_config(model_dir: Path) -> DigestConfig:
    """The model's own way of being asked; the defaults of the settings for a model without one.

    Raises:
        DigestingError: the file cannot be used, or was written for another prompt.
    """
    path = model_dir / DIGEST_CONFIG
    if not path.is_file():
        return DigestConfig(_DEFAULT_MAX_LENGTH, DigestingSettings())
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        version = config["prompt_version"]
        read = DigestConfig(int(config["max_length"]), DigestingSettings.model_validate(config["digesting"]))
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise DigestingError(
            f"{path} cannot be used ({error}), so nobody knows how this model is to be asked. Copy the whole model "
            "directory again, or materialize quantized_model again."
        ) from None
    if version != PROMPT_VERSION:
        raise DigestingError(
            f"{path}: the model was tuned on prompt version {version!r}, this code asks with {PROMPT_VERSION!r}; it "
            "would answer worse without a word of warning. Materialize m2_adapter and what follows again."
        )
    return read


def load_digester(model_dir: Path, *, device: str, precision: str, threads: int) -> "Digester":
    """The model in `model_dir`, ready to digest; a GPTQ model is unpacked once where it cannot run packed.

    Raises:
        DigestingError: no model is there, or not one that was made for this code.
    """
    from safetensors import SafetensorError
    from transformers import AutoTokenizer

    if not (model_dir / "config.json").is_file():
        raise DigestingError(
            f"{model_dir} holds no config.json: it is no model directory. Give the directory of a quantized_model "
            "(`smartdevdigest path quantized_model`) or of any Hugging Face causal language model."
        )
    config = read_digest_config(model_dir)
    chosen = choose_device(device)
    use_threads(threads)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
        model = load_for_inference(model_dir, device=chosen, dtype=choose_dtype(precision, chosen))
    except (OSError, ValueError, SafetensorError) as error:
        raise DigestingError(
            f"{model_dir} cannot be loaded as a causal language model with its tokenizer: {error}. Nothing was "
            "digested. Copy the whole directory again, or let `smartdevdigest verify` look for the damage."
        ) from None
    return Digester(model, tokenizer, config)


class Digester:
    """Answers with a digest per document."""

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: DigestConfig) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.settings = config.digesting
        # A base model with fewer positions than the settings allow would extrapolate beyond what it was trained on.
        positions = getattr(model.config, "max_position_embeddings", config.max_length)
        self.max_prompt_tokens = min(config.max_length, positions) - self.settings.max_new_tokens
        self._guide = AnswerGuide(tokenizer, model.config.vocab_size, self.settings)
        _ = self._guide.budget, self._guide.digit_ids  # refuse what cannot work before the first document
        self._generator = AnswerGenerator(model, self._guide)

    def digest(
        self, documents: Sequence[Document], *, on_step: Callable[[int], None] | None = None
    ) -> Iterator[DigestOutcome]:
        """One outcome per document, in the documents' order; `on_step` gets the tokens written per step."""
        waiting: dict[int, DigestOutcome] = {}
        following = 0
        for indices in self.plan_batches(documents):
            for outcome in self.digest_batch(documents, indices, on_step=on_step):
                waiting[outcome.index] = outcome
            while following in waiting:
                yield waiting.pop(following)
                following += 1

    def plan_batches(self, documents: Sequence[Document]) -> list[list[int]]:
        """Indices of the documents by batch: of like length, the same for the same documents."""
        size = self.settings.batch_size
        batches = []
        for start in range(0, len(documents), window := size * _BATCHES_PER_WINDOW):
            end = min(start + window, len(documents))
            by_length = sorted(range(start, end), key=lambda index: len(documents[index].content.encode()))
            batches += [by_length[first : first + size] for first in range(0, len(by_length), size)]
        return batches

    def digest_batch(
        self, documents: Sequence[Document], indices: Sequence[int], *, on_step: Callable[[int], None] | None = None
    ) -> list[DigestOutcome]:
        """Outcomes of the documents at `indices`, which share every forward pass; in the order of `indices`."""
        started = time.perf_counter()
        prompts: dict[int, Prompt] = {}
        failed: dict[int, str] = {}
        for index in indices:
            try:
                prompts[index] = self._prompt(documents[index])
            except PromptError as error:
                failed[index] = str(error)
        answers = self._generator.generate(
            [
                Question(prompt.token_ids, has_code(documents[index].content), prompt.num_shared)
                for index, prompt in prompts.items()
            ],
            batch_size=self.settings.batch_size,
            on_step=on_step,
        )
        seconds = (time.perf_counter() - started) / max(1, len(indices))
        outcomes = {index: DigestOutcome(index, None, None, 0.0, 0, seconds, error=failed[index]) for index in failed}
        for (index, prompt), answer in zip(prompts.items(), answers, strict=True):
            document = documents[index]
            digest, raw, corrections = make_digest(
                answer, title=document.title, content=document.content, settings=self.settings, seconds=seconds
            )
            outcomes[index] = DigestOutcome(
                index, digest, raw, prompt.covered_share, answer.num_new_tokens, seconds, corrections
            )
        return [outcomes[index] for index in indices]

    def _prompt(self, document: Document) -> Prompt:
        if not document.content.strip():
            raise PromptError("The document's content is blank: there is nothing to digest.")
        return build_prompt(
            self.tokenizer,
            title=document.title,
            content=document.content,
            language=document.language,
            max_tokens=self.max_prompt_tokens,
        )
