"""Calibration sequences: the digest prompts and answers that the quantized model is for.

GPTQ keeps the layer outputs on these inputs, so their language and format decide what survives 4 bits: English prose
alone costs Korean most. Half is Korean, half English, all from the train split.
"""

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.contracts import Label
from smartdevdigest_ops.quantization.errors import QuantizationError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LANGUAGES = ("ko", "en")


@dataclass(frozen=True)
class CalibrationSet:
    """Token ids of each sequence, and the language and document each came from."""

    sequences: list[list[int]]
    languages: list[str]
    document_ids: list[str]

    @property
    def num_tokens(self) -> int:
        """Tokens of all sequences together."""
        return sum(map(len, self.sequences))


def build_calibration(
    tokenizer: "PreTrainedTokenizerBase",
    rows: Iterable[Mapping[str, Any]],
    *,
    num_documents: int,
    num_tokens: int,
    prompt_tokens: int,
    seed: int,
) -> CalibrationSet:
    """Prompt, answer and end of turn of up to `num_documents` labeled rows, at most `num_tokens` tokens each.

    Of longer sequences one of each language keeps its beginning (the instructions and the document) and the next of
    each its end (the document and the answer): both ends of what the model will see are calibrated, in both languages.

    Raises:
        QuantizationError: there is no labeled row.
    """
    from smartdevdigest_ops.digesting.prompt import answer_text, build_prompt  # noqa: PLC0415 - loads with the tokenizer

    chosen = _draw_half_per_language(sorted(rows, key=lambda row: str(row["document_id"])), num_documents, seed)
    if not chosen:
        raise QuantizationError(
            "labeled_pairs has no document in its train split: GPTQ has nothing to calibrate on. Label more documents, "
            "or set model.use_gptq to false."
        )
    sequences = []
    num_before: Counter[str] = Counter()
    for row in chosen:
        prompt = build_prompt(
            tokenizer,
            title=row["title"],
            content=row["content"],
            language=row["language"],
            max_tokens=prompt_tokens,
        )
        answer = answer_text(Label.model_validate(json.loads(row["label"])))
        token_ids = [
            *prompt.token_ids,
            *tokenizer(answer, add_special_tokens=False, split_special_tokens=True)["input_ids"],
        ]
        if tokenizer.eos_token_id is not None:
            token_ids.append(tokenizer.eos_token_id)
        keeps_beginning = num_before[row["language"]] % 2 == 0
        num_before[row["language"]] += 1
        sequences.append(token_ids[:num_tokens] if keeps_beginning else token_ids[-num_tokens:])
    return CalibrationSet(
        sequences, [str(row["language"]) for row in chosen], [str(row["document_id"]) for row in chosen]
    )


def _draw_half_per_language(rows: Sequence[Mapping[str, Any]], number: int, seed: int) -> list[Mapping[str, Any]]:
    """`number` rows, languages in turn; where one runs out, the other fills up."""
    generator = random.Random(seed)
    piles = []
    for language in LANGUAGES:
        pile = [row for row in rows if row["language"] == language]
        generator.shuffle(pile)
        piles.append(pile)
    chosen: list[Mapping[str, Any]] = []
    while len(chosen) < number and any(piles):
        for pile in piles:
            if pile and len(chosen) < number:
                chosen.append(pile.pop())
    return chosen
