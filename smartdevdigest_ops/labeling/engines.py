"""What computes a local teacher's answers: transformers in this process, or vLLM.

Both hold the model to the grammar that `digesting` holds its own model to (`digesting.grammar`), and both leave out
what a cap cut off.

The vLLM engine was **not run**: vLLM needs a GPU. That its grammar is one that vLLM's `guidance` backend reads is
tested, because that backend hands it to llguidance as it is.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from smartdevdigest_ops.digesting.answer import whole_items, whole_prose
from smartdevdigest_ops.digesting.errors import GenerationError
from smartdevdigest_ops.digesting.generate import AnswerGenerator, Question
from smartdevdigest_ops.digesting.grammar import FILLER, AnswerForm, answer_grammar
from smartdevdigest_ops.digesting.sampling import Sampler
from smartdevdigest_ops.digesting.vllm import load_llm
from smartdevdigest_ops.digesting.writer import Answer, AnswerGuide
from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.models.devices import choose_device, choose_dtype, use_threads
from smartdevdigest_ops.quantization.load import load_for_inference
from smartdevdigest_ops.settings import AnswerSettings, LocalTeacherSettings, ModelSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Ask:
    """One prompt, and how its answer is drawn."""

    token_ids: list[int]
    form: AnswerForm
    temperature: float
    seed: int


class Engine(Protocol):
    """Computes answers."""

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The model's tokenizer."""

    @property
    def max_length(self) -> int:
        """Tokens of a prompt and its answer at most."""

    def answer(self, asks: Sequence[Ask]) -> list[tuple[str, int]]:
        """Text and number of tokens of each answer, in order."""


def choose_engine(wanted: str, device: str) -> Literal["transformers", "vllm"]:
    """The engine that `wanted` (auto, transformers, vllm) comes to on this machine.

    Raises:
        LabelingError: vLLM is asked for and not installed.
    """
    has_vllm = find_spec("vllm") is not None
    if wanted == "vllm" and not has_vllm:
        raise LabelingError(
            "labeling.local.engine is vllm, which is not installed, so no document can be labeled. Install vLLM on a "
            "machine with a GPU, or set the engine to auto or transformers."
        )
    if wanted == "auto" and has_vllm and device != "cpu":
        import torch

        return "vllm" if torch.cuda.is_available() else "transformers"
    return "vllm" if wanted == "vllm" else "transformers"


class TransformersEngine:
    """transformers in this process."""

    def __init__(self, snapshot: Path, settings: LocalTeacherSettings, model: ModelSettings) -> None:
        self._caps = settings.answers
        self.tokenizer, self._model = load_model(snapshot, model)
        self.max_length = longest_prompt(settings.max_length, self._model.config)
        guide = AnswerGuide(self.tokenizer, self._model.config.vocab_size, settings.answers)
        self._generator = AnswerGenerator(self._model, guide)

    def answer(self, asks: Sequence[Ask]) -> list[tuple[str, int]]:
        """Text and number of tokens of each answer, in order; all asks share their forward passes."""
        questions = [
            Question(ask.token_ids, ask.form, sampler=Sampler(ask.temperature, ask.seed) if ask.temperature else None)
            for ask in asks
        ]
        texts = []
        for answer in self._generator.generate(questions, batch_size=len(questions)):
            if isinstance(answer, GenerationError):
                raise answer
            texts.append((whole_answer(answer, self._caps), answer.num_new_tokens))
        return texts


class VllmEngine:
    """vLLM in this process. Not run."""

    def __init__(self, snapshot: Path, settings: LocalTeacherSettings, model: ModelSettings) -> None:
        from transformers import AutoConfig, AutoTokenizer

        self._caps = settings.answers
        self.tokenizer = AutoTokenizer.from_pretrained(snapshot, local_files_only=True)
        self.max_length = longest_prompt(settings.max_length, AutoConfig.from_pretrained(snapshot))
        self._llm = load_llm(snapshot, self.max_length, model.precision)

    def answer(self, asks: Sequence[Ask]) -> list[tuple[str, int]]:
        """Text and number of tokens of each answer, in order."""
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        parameters = [
            SamplingParams(
                temperature=ask.temperature,
                seed=ask.seed % 2**31,
                max_tokens=self._caps.max_new_tokens,
                structured_outputs=StructuredOutputsParams(grammar=answer_grammar(self._caps, ask.form)),
            )
            for ask in asks
        ]
        prompts = [{"prompt_token_ids": ask.token_ids} for ask in asks]
        outputs = [result.outputs[0] for result in self._llm.generate(prompts, parameters, use_tqdm=False)]
        # One that max_tokens cut off is no JSON, and is refused as such.
        return [(output.text, len(output.token_ids)) for output in outputs]


def load_model(snapshot: Path, settings: ModelSettings) -> "tuple[PreTrainedTokenizerBase, PreTrainedModel]":
    """Tokenizer and model of a directory, on the device of the settings."""
    from transformers import AutoTokenizer

    device = choose_device(settings.device)
    use_threads(settings.threads)
    tokenizer = AutoTokenizer.from_pretrained(snapshot, local_files_only=True)
    return tokenizer, load_for_inference(snapshot, device=device, dtype=choose_dtype(settings.precision, device))


def longest_prompt(max_length: int | None, config: Any) -> int:
    """Tokens of a prompt and its answer at most: `max_length`, or as many positions as the model has."""
    positions = getattr(config, "max_position_embeddings", None) or max_length or 0
    return min(positions, max_length or positions)


def whole_answer(answer: Answer, caps: AnswerSettings) -> str:
    """JSON of an answer without the items that were cut off, and its prose up to the last whole sentence."""
    raw: dict[str, Any] = json.loads(answer.text)
    cut = answer.cut_fields
    for name, most in (
        ("keywords", caps.max_keyword_characters),
        ("prerequisites", caps.max_prerequisite_characters),
    ):
        items, _ = whole_items(raw[name], name in cut, most)
        raw[name] = [item for item in items if item != FILLER]
    raw["technical_terms"] = [
        term | {"explanation": whole_prose(term["explanation"], caps.max_explanation_characters, cut=False)}
        for term in raw["technical_terms"][: -1 if "technical_terms" in cut else None]
        if len(term["term"]) < caps.max_keyword_characters and FILLER not in (term["term"], term["explanation"])
    ]
    raw["summary"] = whole_prose(raw["summary"], caps.max_summary_characters, cut="summary" in cut)
    return json.dumps(raw, ensure_ascii=False)
