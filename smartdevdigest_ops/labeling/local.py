"""A model on this machine that is asked.

As a teacher it is held to the answer's grammar, as the model that digests is. The snapshot of the model is taken into
the store once, and answers are kept by what is in it: another file, another teacher. Documents are asked in batches of
like length; a batch is in the cache as soon as it is written.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.artifacts import canonical_json, content_hash
from smartdevdigest_ops.digesting.grammar import AnswerForm
from smartdevdigest_ops.digesting.prompt import encode_data, frame_data
from smartdevdigest_ops.digesting.sections import has_code
from smartdevdigest_ops.labeling.cache import Usage
from smartdevdigest_ops.labeling.engines import Ask, Engine, TransformersEngine, VllmEngine, choose_engine
from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.labeling.inquiry import Inquiry, Reply, Sampling
from smartdevdigest_ops.labeling.label_inquiry import LabelInquiry
from smartdevdigest_ops.labeling.quote import prompt_tokens
from smartdevdigest_ops.models.resolve import HUB_PREFIX, resolve_base_model, source_files
from smartdevdigest_ops.settings import LocalModelSettings, LocalTeacherSettings, ModelSettings
from smartdevdigest_ops.stage.planning import outside_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BATCHES_PER_WINDOW = 16
_TINY_SEED = 0


@dataclass(frozen=True)
class Machine:
    """Where local models are kept and computed."""

    models_dir: Path
    model: ModelSettings
    """Its device, precision, threads and accept_terms."""


class LocalModel:
    """A model of this machine, by what is in its files; `where` is the path of its settings, for messages."""

    def __init__(self, settings: LocalModelSettings, machine: Machine, where: str) -> None:
        self.name = str(settings.model)
        """How the model is called in messages."""
        self._machine = machine
        self._where = where

    def identity(self) -> Mapping[str, Any]:
        """The contents of the model's files, or its pinned revision at the Hub."""
        return self._identity

    @cached_property
    def _identity(self) -> Mapping[str, Any]:
        if self.name.startswith(HUB_PREFIX):
            return {"teacher": "local", "model": self.name}
        files = source_files(self.name, self._machine.model.accept_terms)
        return {"teacher": "local", "files": [[file.name, outside_sha256(file)] for file in files]}

    def quote(self, inquiries: Sequence[Inquiry[Any]]) -> tuple[Usage, float | None, float | None]:
        """Tokens of asking the open inquiries once each; it costs nothing, and nobody sets a limit."""
        asked = [inquiry for inquiry in inquiries if inquiry.is_open]
        answers = sum(inquiry.usual_answer_tokens for inquiry in asked)
        return Usage(sum(map(prompt_tokens, asked)), 0, answers), None, None

    def snapshot(self) -> Path:
        """Directory of the model, taken into the store where it is not there yet."""
        final = self._machine.models_dir / content_hash(canonical_json(self.identity()))
        if not final.is_dir():
            final.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}."))
            try:
                terms = self._machine.model.accept_terms
                resolve_base_model(self.name, partial, seed=_TINY_SEED, accept_terms=terms)
                partial.rename(final)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return final

    def prompt(
        self, tokenizer: "PreTrainedTokenizerBase", inquiry: Inquiry[Any], *, max_length: int, answer_tokens: int
    ) -> list[int]:
        """Token ids of what the inquiry asks now, its document cut so that an answer of so many tokens has room.

        Raises:
            LabelingError: there is no room for any of the document.
        """
        system, _, *later = inquiry.messages()
        before, after = frame_data(tokenizer, system["content"], later)
        room = max_length - answer_tokens - len(before) - len(after)
        data_ids = _fit(tokenizer, inquiry, room)
        if data_ids is None:
            raise LabelingError(
                f"The instruction and an answer take {max_length - room} of the {max_length} tokens that {self.name} "
                f"has room for: nothing is left for the document. Raise {self._where}.max_length, lower the cap of "
                "its answers where there is one, or take a model with a longer context."
            )
        return [*before, *data_ids, *after]


class LocalTeacher(LocalModel):
    """Labels documents with a model of this machine."""

    def __init__(self, settings: LocalTeacherSettings, machine: Machine, where: str) -> None:
        super().__init__(settings, machine, where)
        self.settings = settings
        self._engine_name = choose_engine(settings.engine, machine.model.device)

    def parameters(self) -> Mapping[str, Any]:
        """What decides its answers besides the sampling."""
        return {
            "engine": self._engine_name,
            "max_length": self.settings.max_length,
            "answers": self.settings.answers.model_dump(mode="json", exclude={"batch_size"}),
        }

    def sampling(self) -> Sampling:
        """How its answers are drawn."""
        return Sampling(self.settings.temperature, self.settings.seed)

    def ask(self, inquiries: Sequence[LabelInquiry]) -> None:
        """Ask until every inquiry has an outcome.

        Raises:
            LabelingError: the model cannot be loaded, or has no room for the instruction.
        """
        from tqdm import tqdm  # noqa: PLC0415 - beside what it measures

        if not any(inquiry.is_open for inquiry in inquiries):
            return
        kind = VllmEngine if self._engine_name == "vllm" else TransformersEngine
        engine: Engine = kind(self.snapshot(), self.settings, self._machine.model)
        with tqdm(total=len(inquiries), desc="teacher", unit="document") as bar:
            while asked := [inquiry for inquiry in inquiries if inquiry.is_open]:
                for batch in _batches_of_like_length(asked, self.settings.answers.batch_size):
                    prompts = [self._ask(engine, inquiry) for inquiry in batch]
                    for inquiry, prompt, (text, num_tokens) in zip(batch, prompts, engine.answer(prompts), strict=True):
                        inquiry.take(Reply(text, Usage(len(prompt.token_ids), 0, num_tokens)))
                    bar.update(sum(not inquiry.is_open for inquiry in batch))

    def _ask(self, engine: Engine, inquiry: LabelInquiry) -> Ask:
        sampling = inquiry.sampling
        return Ask(
            token_ids=self.prompt(
                engine.tokenizer,
                inquiry,
                max_length=engine.max_length,
                answer_tokens=self.settings.answers.max_new_tokens,
            ),
            form=AnswerForm(inquiry.row["language"], has_code(inquiry.row["content"])),
            temperature=sampling.temperature or 0.0,
            # Its own draws for each document, and the same in every batch.
            seed=int(content_hash(f"{sampling.seed or 0} {inquiry.question.key}"), 16),
        )


def _fit(tokenizer: "PreTrainedTokenizerBase", inquiry: Inquiry[Any], room: int) -> list[int] | None:
    """Token ids of the user's turn, its document cut to what fits; None where not even none of it does."""
    ids = encode_data(tokenizer, inquiry.question.data)
    if len(ids) <= room:
        return ids
    fitting: list[int] | None = None
    low, high = 0, len(inquiry.question.data)
    while low <= high:  # the longest head that fits
        middle = (low + high) // 2
        ids = encode_data(tokenizer, inquiry.data_within(middle))
        if len(ids) <= room:
            fitting, low = ids, middle + 1
        else:
            high = middle - 1
    return fitting


def _batches_of_like_length(inquiries: Sequence[LabelInquiry], size: int) -> list[list[LabelInquiry]]:
    batches = []
    for start in range(0, len(inquiries), window := size * _BATCHES_PER_WINDOW):
        by_length = sorted(inquiries[start : start + window], key=lambda inquiry: len(inquiry.question.data.encode()))
        batches += [by_length[first : first + size] for first in range(0, len(by_length), size)]
    return batches
