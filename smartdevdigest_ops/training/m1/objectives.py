"""What a sequence asks of the model.

`clm`   next tokens, of inputs as they are.

            input    the  pod  is   small
            label    pod  is   small  .

`mlm`   for decoder models masked-input next-token prediction: a share of the inputs is replaced by a mask token, the
        targets stay the next tokens, of all positions. The model cannot lean on a masked neighbour and must look
        further back; at use nothing is masked and nothing is different.

            input    the  MASK  is   small
            label    pod  is    small  .

        Source: Zhuang et al. 2025, "Mask-Enhanced Autoregressive Prediction" (arXiv 2502.07490), section 3; 15 % there.

        For encoder models true masked language modelling: of the chosen tokens 80 % are masked, 10 % replaced by a
        random token, 10 % left; these alone are targets, at their own places.

        Source: Devlin et al. 2019, "BERT", section 3.1, task 1.

`mixed` a share of the sequences mlm, the others clm; the share follows a line of given points over the run.

Document boundaries are never masked: they say where a text begins. Shapes: T tokens of one sequence.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from smartdevdigest_ops.settings import M1Settings
from smartdevdigest_ops.training.bits_per_byte import document_boundary_id
from smartdevdigest_ops.training.errors import TrainingError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

IGNORED = -100
_BERT_MASKED, _BERT_RANDOM = 0.8, 0.1
# Tokens that vocabularies hold for uses to come: Llama 3, Gemma, T5, and what encoders mask with.
_RESERVED = re.compile(r"^[<\[]\|?(mask|unused_?\d+|reserved_special_token_\d+|extra_id_\d+)\|?[>\]]$", re.IGNORECASE)


@dataclass(frozen=True)
class Objective:
    """How an item of a packed dataset is changed before the model sees it."""

    masked_share: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    """(part of the run done, share of masked sequences), straight lines between."""
    ratio: float = 0.0
    """Share of a masked sequence's tokens."""
    mask_id: int = 0
    kept_ids: frozenset[int] = field(default_factory=frozenset)
    """Tokens that are never masked."""
    random_ids: int | None = None
    """For encoders: replacements are drawn from the ids below; None: next-token prediction."""

    def prepare(
        self, item: "dict[str, torch.Tensor]", done: float, draws: "np.random.Generator"
    ) -> "dict[str, torch.Tensor]":
        """The item with its inputs masked, or as it was: drawn by the share that is due at `done`, in [0, 1)."""
        share = share_at(self.masked_share, done)
        # Drawn also where the share is 0 or 1: a sequence's mask does not depend on the schedule.
        if draws.random() >= share:
            return item
        if self.random_ids is None:
            return item | {"input_ids": self.mask_inputs(item["input_ids"], draws)}
        input_ids_T, labels_T = self.mask_and_ask(item["input_ids"], draws)
        return item | {"input_ids": input_ids_T, "labels": labels_T}

    def mask_inputs(self, token_ids_T: "torch.Tensor", draws: "np.random.Generator") -> "torch.Tensor":
        """A copy of the ids with `ratio` of those that may be masked replaced by the mask token."""
        masked_T = token_ids_T.clone()
        masked_T[self._choose(token_ids_T, draws)] = self.mask_id
        return masked_T

    def mask_and_ask(
        self, token_ids_T: "torch.Tensor", draws: "np.random.Generator"
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Inputs and labels of masked language modelling; labels are -100 where nothing is asked.

        The labels stand at the places of their own tokens, as `*ForMaskedLM` models read them.
        """
        import torch

        chosen = self._choose(token_ids_T, draws)
        labels_T = torch.full_like(token_ids_T, IGNORED)
        labels_T[chosen] = token_ids_T[chosen]
        input_ids_T = token_ids_T.clone()
        kinds = torch.from_numpy(draws.random(len(chosen)))
        replacements = torch.from_numpy(draws.integers(0, self.random_ids or 1, size=len(chosen)))
        input_ids_T[chosen[kinds < _BERT_MASKED]] = self.mask_id
        is_random = (kinds >= _BERT_MASKED) & (kinds < _BERT_MASKED + _BERT_RANDOM)
        input_ids_T[chosen[is_random]] = replacements[is_random]
        return input_ids_T, labels_T

    def _choose(self, token_ids_T: "torch.Tensor", draws: "np.random.Generator") -> "torch.Tensor":
        """Places of the tokens to mask: exactly `ratio` of those that may be, rounded."""
        import torch

        may_be = [place for place, token_id in enumerate(token_ids_T.tolist()) if token_id not in self.kept_ids]
        return torch.from_numpy(draws.permutation(may_be)[: round(self.ratio * len(may_be))].astype("int64"))


NEXT_TOKEN = Objective()


def share_at(points: Sequence[tuple[float, float]], done: float) -> float:
    """The share that is due when `done` of the run is over: between two points on the line from one to the other."""
    import numpy as np

    return float(np.interp(done, [point[0] for point in points], [point[1] for point in points]))


def build_objective(
    settings: M1Settings, tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig"
) -> Objective:
    """The objective that the settings ask for, for the kind of model that `config` describes.

    Raises:
        TrainingError: no token can mask.
    """
    if settings.objective == "clm":
        return NEXT_TOKEN
    return Objective(
        masked_share=((0.0, 1.0),) if settings.objective == "mlm" else settings.masked_share,
        ratio=settings.mask_ratio,
        mask_id=choose_mask_id(tokenizer, settings.mask_token),
        kept_ids=frozenset({document_boundary_id(tokenizer), *tokenizer.all_special_ids}),
        random_ids=len(tokenizer) if is_encoder(config) else None,
    )


def is_encoder(config: "PretrainedConfig") -> bool:
    """Whether the checkpoint is of a model that fills in masks (`*ForMaskedLM`), not one that continues a text."""
    return any(name.endswith("ForMaskedLM") for name in config.architectures or ())


def refuse_encoder(config: "PretrainedConfig") -> None:
    """Stop before an encoder is trained.

    Raises:
        TrainingError: the model is one.
    """
    if is_encoder(config):
        raise TrainingError(
            f"{config.name_or_path}: the base model is {', '.join(config.architectures or ())}, which fills in masked "
            "tokens. The digest is written token by token (M2, quantized_model and digest need a *ForCausalLM), so "
            "M1 does not train it. Choose a decoder for model.base_model; training.m1.objective=mlm trains that one "
            "on masked inputs."
        )


def choose_mask_id(tokenizer: "PreTrainedTokenizerBase", wanted: str | None = None) -> int:
    """The token that stands for a masked input.

    `wanted` if given; else the tokenizer's mask token; else the first that is named as reserved or unused
    (`<|reserved_special_token_0|>`, `<unused0>`); else the last special token that neither opens, closes nor separates
    anything here: `<empty_output>` for SmolLM2, whose embedding the run then uses up.

    Raises:
        TrainingError: there is none, or `wanted` is not in the vocabulary.
    """
    vocabulary = tokenizer.get_vocab()
    if wanted is not None:
        if wanted not in vocabulary:
            raise TrainingError(
                f"training.m1.mask_token={wanted!r} is no token of {tokenizer.name_or_path}, so nothing can be masked "
                "with it. Name one of its tokens that no document uses, or set it to null."
            )
        return int(vocabulary[wanted])
    if tokenizer.mask_token_id is not None:
        return int(tokenizer.mask_token_id)
    reserved = sorted(token_id for token, token_id in vocabulary.items() if _RESERVED.match(token))
    if reserved:
        return int(reserved[0])
    named = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id)
    spoken_for = {document_boundary_id(tokenizer), *named}
    template = str(tokenizer.chat_template or "")
    free = [
        token_id
        for token_id, token in tokenizer.added_tokens_decoder.items()
        if token.special and token_id not in spoken_for and token.content not in template
    ]
    if not free:
        raise TrainingError(
            f"{tokenizer.name_or_path} has no mask token and no special token without a use, which "
            "training.m1.objective needs to mask inputs. Name a token that no document uses in "
            "training.m1.mask_token, or set objective to clm."
        )
    return int(max(free))
