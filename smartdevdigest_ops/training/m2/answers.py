"""Completion examples: the digest prompt of a document, then its label's answer, which alone is learned.

    ids     <prompt, at most T - answer> <answer> <end of turn>
    labels  -100 ...                     <answer> <end of turn>

The answer is held to the digester's caps at whole items and sentences, and is cut no further. One that leaves the
document less than an eighth of T is left out, and counted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.contracts import Label, Term
from smartdevdigest_ops.digesting.answer import whole_prose
from smartdevdigest_ops.digesting.prompt import answer_text, build_prompt
from smartdevdigest_ops.training.errors import TrainingError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from smartdevdigest_ops.settings import DigestingSettings

IGNORED = -100
_LEAST_DOCUMENT_SHARE = 1 / 8


@dataclass(frozen=True)
class Example:
    """One document and its answer, as token ids."""

    prompt_ids: list[int]
    answer_ids: list[int]
    """The end of turn included."""
    covered_share: float = 1.0
    """Share of the document's characters that is in the prompt; below 1 where it was cut (`digesting.sections`)."""

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.answer_ids)


@dataclass(frozen=True)
class Examples:
    """The examples of one split."""

    examples: list[Example]
    num_left_out: int
    """Their answer is too long for T."""

    @property
    def num_cut(self) -> int:
        """Examples whose document did not fit beside its answer: its end was left out."""
        return sum(example.covered_share < 1 for example in self.examples)

    @property
    def mean_covered_share(self) -> float:
        """Mean share of a document that its prompt holds; 1 of none."""
        shares = [example.covered_share for example in self.examples]
        return sum(shares) / len(shares) if shares else 1.0


def cap_answer(label: Label, digesting: "DigestingSettings") -> Label:
    """The label without the list items and sentences that the digester's grammar would not let the model write.

    Taught to go on where the grammar ends a list or a summary, it would never learn to end one.
    """
    explanations = digesting.max_explanation_characters
    return label.model_copy(
        update={
            "summary": _cap_prose(label.summary, digesting.max_summary_characters),
            "keywords": label.keywords[: digesting.max_keywords],
            "prerequisites": label.prerequisites[: digesting.max_prerequisites],
            "technical_terms": [
                Term(term=term.term, explanation=_cap_prose(term.explanation, explanations))
                for term in label.technical_terms[: digesting.max_terms]
            ],
        }
    )


def _cap_prose(text: str, max_characters: int) -> str:
    """The text, below the cap: prose as long as it is taken for cut off (`whole_prose`)."""
    if len(text) < max_characters:
        return text
    head, following = text[: max_characters - 2], text[max_characters - 2]  # an ellipsis still fits behind it
    if not following.isspace():
        head = head.rpartition(" ")[0] or head  # the "3." of "Python 3.12" ends no sentence
    return whole_prose(head, max_characters, cut=True)


def build_examples(
    tokenizer: "PreTrainedTokenizerBase",
    rows: Iterable[Mapping[str, Any]],
    digesting: "DigestingSettings",
    *,
    sequence_length: int,
) -> Examples:
    """Examples of labelled rows (labeled_pairs), in their order, each at most `sequence_length` tokens.

    Raises:
        TrainingError: the tokenizer has no EOS to end an answer with.
        PromptError: not even the instruction fits into `sequence_length`.
    """
    if tokenizer.eos_token_id is None:
        raise TrainingError(
            f"{tokenizer.name_or_path}: the tokenizer has no EOS token, so that the model could not learn to end its "
            "answer. Set eos_token in the base model's tokenizer_config.json to the chat template's end of turn."
        )
    examples: list[Example] = []
    num_left_out = 0
    for row in rows:
        label = cap_answer(Label.model_validate_json(row["label"]), digesting)
        answer_ids = tokenizer(answer_text(label), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        answer_ids = [*answer_ids, tokenizer.eos_token_id]
        build = partial(build_prompt, tokenizer, title=row["title"], language=row["language"])
        frame = build(content="", max_tokens=sequence_length).token_ids
        room = sequence_length - len(answer_ids)
        if room - len(frame) < sequence_length * _LEAST_DOCUMENT_SHARE:
            num_left_out += 1
            continue
        prompt = build(content=row["content"], max_tokens=room)
        examples.append(Example(prompt.token_ids, answer_ids, prompt.covered_share))
    return Examples(examples, num_left_out)


class AnswerBatches:
    """Batches of B examples of like length, made once, so that padding is small and the same after a resume.

    The Trainer draws whole batches, in another order each epoch. An item is `input_ids` and `labels`, (B, T) int64,
    padded on the right to the longest of the batch. There is no attention mask: causal attention never looks right.
    """

    def __init__(self, examples: Sequence[Example], *, batch_size: int, pad_id: int) -> None:
        by_length = sorted(examples, key=len)  # stable: ties stay in the rows' order
        self._batches = [by_length[start : start + batch_size] for start in range(0, len(by_length), batch_size)]
        self._pad_id = pad_id

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> "dict[str, torch.Tensor]":
        """One batch."""
        import torch

        batch = self._batches[index]
        longest = max(len(example) for example in batch)
        ids, labels = [], []
        for example in batch:
            padding = longest - len(example)
            ids.append([*example.prompt_ids, *example.answer_ids] + [self._pad_id] * padding)
            labels.append([IGNORED] * len(example.prompt_ids) + example.answer_ids + [IGNORED] * padding)
        return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}


class PackedAnswers:
    """Sequences of exactly T tokens, filled with whole examples, which do not attend to each other.

    An item is `input_ids`, `labels` and `position_ids`, (T,) int64. Positions begin anew with each example, by which
    transformers' attention tells them apart; what is left of T is filled up as one more that carries no loss. No
    example is cut: each goes, the longest first, into the first sequence that still holds it (first-fit decreasing),
    which leaves at most 2/9 more sequences than there must be (Johnson 1973).
    """

    def __init__(self, examples: Sequence[Example], *, sequence_length: int, pad_id: int) -> None:
        self._sequences: list[list[Example]] = []
        room: list[int] = []
        for example in sorted(examples, key=len, reverse=True):  # stable: ties stay in the rows' order
            index = next((i for i, left in enumerate(room) if left >= len(example)), len(room))
            if index == len(room):
                self._sequences.append([])
                room.append(sequence_length)
            self._sequences[index].append(example)
            room[index] -= len(example)
        self._length = sequence_length
        self._pad_id = pad_id

    def __len__(self) -> int:
        return len(self._sequences)

    def __getitem__(self, index: int) -> "dict[str, torch.Tensor]":
        """One sequence."""
        import torch

        ids: list[int] = []
        labels: list[int] = []
        positions: list[int] = []
        for example in self._sequences[index]:
            ids += [*example.prompt_ids, *example.answer_ids]
            labels += [IGNORED] * len(example.prompt_ids) + example.answer_ids
            positions += range(len(example))
        padding = self._length - len(ids)
        return {
            "input_ids": torch.tensor(ids + [self._pad_id] * padding),
            "labels": torch.tensor(labels + [IGNORED] * padding),
            "position_ids": torch.tensor([*positions, *range(padding)]),
        }


def only_batch(items: list[dict[str, "torch.Tensor"]]) -> dict[str, "torch.Tensor"]:
    """Collate function of a loader whose items are batches: its one item."""
    (batch,) = items
    return batch
