"""A model that digests: loaded from a directory that says itself how it is to be asked.

Each document is a question, or several with `digesting.long_documents: map_reduce`, where it is longer than the prompt:
one per part, then one for the summary of the parts' summaries (`digesting.merge`).
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import ValidationError

from smartdevdigest_ops.contracts import Digest
from smartdevdigest_ops.contracts.label import weighted_score
from smartdevdigest_ops.digesting.answer import Corrections, Reading, compose_digest, expected_digits, read_answer
from smartdevdigest_ops.digesting.calibration import DifficultyCalibration, read_calibration
from smartdevdigest_ops.digesting.errors import DigestingError, GenerationError
from smartdevdigest_ops.digesting.generate import AnswerGenerator, Question
from smartdevdigest_ops.digesting.merge import merge_factors, merge_readings, summaries_as_document
from smartdevdigest_ops.digesting.prompt import PROMPT_VERSION, Prompt, PromptError, build_part_prompts, build_prompt
from smartdevdigest_ops.digesting.writer import Answer, AnswerGuide
from smartdevdigest_ops.models.devices import choose_device, choose_dtype, use_threads
from smartdevdigest_ops.quantization.load import load_for_inference
from smartdevdigest_ops.settings import DigestingSettings, Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DIGEST_CONFIG = "digest_config.json"
# Of a model that came without a digest_config.json.
_DEFAULT_MAX_LENGTH = 1024
# Documents digested together, as a multiple of those written at a time: a row that is finished goes on with the next
# document, and only towards the end of them rows stand idle.
_BATCHES_TOGETHER = 4


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
    """The JSON object as the model wrote it, with the likeliest digits; of parts, the summary's."""
    covered_share: float
    """Share of the content that the prompts hold."""
    num_new_tokens: int
    seconds: float
    """This document's part of its batch's wall time: documents of a batch are not timed apart, so an equal one."""
    corrections: Corrections = field(default_factory=Corrections)
    error: str | None = None
    """Why there is no digest."""
    num_parts: int = 1
    """Parts that the document was read in."""
    factors: Mapping[str, float | None] | None = None
    """Difficulty factor -> expected digit before calibration, 1.0-5.0; None for code in a document without."""
    fault: Literal["document", "model"] | None = None
    """Whose the error is: no prompt can be made of the document, or the model's answer cannot be read."""

    @property
    def valid(self) -> bool:
        """Whether there is a digest of the contract."""
        return self.digest is not None


def failed_outcome(index: int, error: PromptError | GenerationError, seconds: float) -> DigestOutcome:
    """What came of a document without a digest."""
    fault: Literal["document", "model"] = "document" if isinstance(error, PromptError) else "model"
    return DigestOutcome(index, None, None, 0.0, 0, seconds, error=str(error), fault=fault)


@dataclass(frozen=True)
class DigestConfig:
    """How a model is asked: what `digest_config.json` holds."""

    max_length: int
    digesting: DigestingSettings
    calibration: DifficultyCalibration = field(default_factory=DifficultyCalibration)
    """What becomes of a difficulty score."""


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
        settings = DigestingSettings.model_validate(config["digesting"])
        read = DigestConfig(int(config["max_length"]), settings, read_calibration(model_dir))
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


def load_digester(
    model_dir: Path, *, device: str, precision: str, threads: int, may_use_vllm: bool = False
) -> "Digester":
    """The model in `model_dir`, ready to digest; a GPTQ model is unpacked once where it cannot run packed.

    `may_use_vllm`: through vLLM where it is installed and the device is cuda. Not for one of several models of a
    process: an engine does not give back its memory.

    Raises:
        DigestingError: no model is there, or not one that was made for this code.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoTokenizer

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
        if may_use_vllm and chosen == "cuda" and util.find_spec("vllm") is not None:
            from smartdevdigest_ops.digesting.vllm import VllmGenerator, load_llm  # noqa: PLC0415 - needs a GPU

            guide = _checked_guide(tokenizer, len(tokenizer), config)
            positions = getattr(AutoConfig.from_pretrained(model_dir), "max_position_embeddings", config.max_length)
            length = min(config.max_length, positions)
            return Digester(VllmGenerator(load_llm(model_dir, length), guide, length), tokenizer, config)
        model = load_for_inference(model_dir, device=chosen, dtype=choose_dtype(precision, chosen))
    except (OSError, ValueError, SafetensorError) as error:
        raise DigestingError(
            f"{model_dir} cannot be loaded as a causal language model with its tokenizer: {error}. Nothing was "
            "digested. Copy the whole directory again, or let `smartdevdigest verify` look for the damage."
        ) from None
    return digester_of(model, tokenizer, config)


def digester_of(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", config: DigestConfig) -> "Digester":
    """A model that is in memory, ready to digest.

    Raises:
        DigestingError: its tokenizer cannot write an answer within the budget.
    """
    guide = _checked_guide(tokenizer, model.config.vocab_size, config)
    return Digester(AnswerGenerator(model, guide), tokenizer, config)


def _checked_guide(tokenizer: "PreTrainedTokenizerBase", vocab_size: int, config: DigestConfig) -> AnswerGuide:
    guide = AnswerGuide(tokenizer, vocab_size, config.digesting)
    _ = guide.budget, guide.digit_ids  # refuse what cannot work before the first document
    return guide


class Generator(Protocol):
    """What answers questions: `AnswerGenerator`, `VllmGenerator`."""

    @property
    def num_positions(self) -> int | None:
        """Tokens of prompt and answer that the model was made for; None where nothing says so."""

    def generate(
        self, questions: Sequence[Question], *, batch_size: int, on_step: Callable[[int], None] | None = None
    ) -> list[Answer | GenerationError]:
        """The answer to each question, in order, or why there is none."""
        ...


class Digester:
    """Answers with a digest per document."""

    def __init__(self, generator: Generator, tokenizer: "PreTrainedTokenizerBase", config: DigestConfig) -> None:
        self.generator = generator
        self.tokenizer = tokenizer
        self.settings = config.digesting
        self.calibration = config.calibration
        # A base model with fewer positions than the settings allow would extrapolate beyond what it was trained on.
        positions = min(config.max_length, generator.num_positions or config.max_length)
        self.max_prompt_tokens = positions - self.settings.max_new_tokens

    @property
    def window(self) -> int:
        """Documents that follow each other and are digested together."""
        return self.settings.batch_size * _BATCHES_TOGETHER

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
        """Indices of documents that follow each other, by what is digested together, of like length beside each other.

        The same for the same documents: which rows share a step moves the last bits of their logits.
        """
        starts = range(0, len(documents), self.window)
        windows = [range(start, min(start + self.window, len(documents))) for start in starts]
        return [sorted(window, key=lambda index: len(documents[index].content.encode())) for window in windows]

    def digest_batch(
        self, documents: Sequence[Document], indices: Sequence[int], *, on_step: Callable[[int], None] | None = None
    ) -> list[DigestOutcome]:
        """Outcomes of the documents at `indices`, any number of them; in the order of `indices`."""
        started = time.perf_counter()
        asked, failed = self._ask(documents, indices, on_step=on_step)
        readings = {index: [read_answer(answer, self.settings) for answer in asked[index].answers] for index in asked}
        self._ask_for_summaries(documents, asked, readings, failed, on_step)
        seconds = (time.perf_counter() - started) / max(1, len(indices))
        outcomes = {index: failed_outcome(index, error, seconds) for index, error in failed.items()}
        for index in asked.keys() - failed.keys():
            document, (prompts, answers) = documents[index], (asked[index].prompts, asked[index].answers)
            reading = readings[index][0]
            if len(prompts) > 1:
                characters = [prompt.covered_characters for prompt in prompts]
                *parts, summary = readings[index]
                reading = merge_readings(parts, characters, summary, self.settings)
            digest, corrections = compose_digest(
                reading,
                title=document.title,
                content=document.content,
                settings=self.settings,
                seconds=seconds,
                calibrate=partial(self.calibration.apply, language=document.language),
            )
            outcomes[index] = DigestOutcome(
                index,
                digest,
                json.loads(answers[-1].text),
                asked[index].covered_share,
                sum(answer.num_new_tokens for answer in answers),
                seconds,
                corrections,
                num_parts=len(prompts),
                factors=reading.factors,
            )
        return [outcomes[index] for index in indices]

    def read_difficulty(self, documents: Sequence[Document], indices: Sequence[int]) -> dict[int, float]:
        """Index -> difficulty before calibration of each document that could be read; generation ends behind it."""
        asked, _ = self._ask(documents, indices, factors_only=True)
        weights = self.settings.factor_weights.model_dump()
        scores = {}
        for index, read in asked.items():
            factors = [expected_digits(answer) for answer in read.answers]
            merged = merge_factors(factors, [prompt.covered_characters for prompt in read.prompts])
            scores[index] = weighted_score(merged, weights)
        return scores

    def _ask(
        self,
        documents: Sequence[Document],
        indices: Sequence[int],
        *,
        on_step: Callable[[int], None] | None = None,
        factors_only: bool = False,
    ) -> tuple[dict[int, "_Asked"], dict[int, PromptError | GenerationError]]:
        """What was asked and answered per document, a question per part, and why some have no answer."""
        prompts: dict[int, list[Prompt]] = {}
        failed: dict[int, PromptError | GenerationError] = {}
        for index in indices:
            try:
                prompts[index] = self._prompts(documents[index])
            except PromptError as error:
                failed[index] = error
        questions = [
            Question(prompt.token_ids, prompt.form, prompt.num_shared, factors_only)
            for of_document in prompts.values()
            for prompt in of_document
        ]
        answers = iter(self.generator.generate(questions, batch_size=self.settings.batch_size, on_step=on_step))
        asked = {}
        for index, of_document in prompts.items():
            given = [next(answers) for _ in of_document]
            errors = [answer for answer in given if isinstance(answer, GenerationError)]
            if errors:
                failed[index] = errors[0]
            else:
                asked[index] = _Asked(of_document, [answer for answer in given if isinstance(answer, Answer)])
        return asked, failed

    def _ask_for_summaries(
        self,
        documents: Sequence[Document],
        asked: dict[int, "_Asked"],
        readings: dict[int, list[Reading]],
        failed: dict[int, PromptError | GenerationError],
        on_step: Callable[[int], None] | None,
    ) -> None:
        """Append to the documents in parts the answer about, and the reading of, their parts' summaries."""
        in_parts = [index for index in asked if len(asked[index].prompts) > 1]
        prompts = [
            build_prompt(
                self.tokenizer,
                title=documents[index].title,
                content=summaries_as_document(readings[index]),
                language=documents[index].language,
                max_tokens=self.max_prompt_tokens,
            )
            for index in in_parts
        ]
        questions = [
            Question(prompt.token_ids, replace(prompt.form, with_code=False), prompt.num_shared) for prompt in prompts
        ]
        answers = self.generator.generate(questions, batch_size=self.settings.batch_size, on_step=on_step)
        for index, answer in zip(in_parts, answers, strict=True):
            if isinstance(answer, GenerationError):
                failed[index] = answer
            else:
                asked[index].answers.append(answer)
                readings[index].append(read_answer(answer, self.settings))

    def _prompts(self, document: Document) -> list[Prompt]:
        if not document.content.strip():
            raise PromptError("The document's content is blank: there is nothing to digest.")
        build = (
            partial(build_part_prompts, max_parts=self.settings.max_parts)
            if self.settings.long_documents == "map_reduce"
            else lambda *of, **given: [build_prompt(*of, **given)]
        )
        return build(
            self.tokenizer,
            title=document.title,
            content=document.content,
            language=document.language,
            max_tokens=self.max_prompt_tokens,
        )


@dataclass
class _Asked:
    """The questions about one document, and their answers."""

    prompts: list[Prompt]
    answers: list[Answer]

    @property
    def covered_share(self) -> float:
        """Share of the content that the prompts hold."""
        return sum(prompt.covered_characters for prompt in self.prompts) / self.prompts[0].total_characters
