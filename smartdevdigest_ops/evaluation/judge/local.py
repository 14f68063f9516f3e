"""A judge of this machine: the probabilities of the digits behind the question, in one forward pass, nothing drawn.

Questions about one document under one instruction are computed together: what their prompts begin with, which is the
instruction and the document, is read once for the batch.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby, takewhile
from typing import TYPE_CHECKING

from smartdevdigest_ops.evaluation.judge.judgement import DigitInquiry
from smartdevdigest_ops.labeling.cache import Usage
from smartdevdigest_ops.labeling.engines import load_model, longest_prompt
from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.labeling.inquiry import Reply, TokenChoice
from smartdevdigest_ops.labeling.local import LocalModel, Machine
from smartdevdigest_ops.settings import LocalJudgeSettings

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# How tokenizers write a digit: alone, or with the space before it (byte-level BPE, SentencePiece).
_SPELLINGS = ("{}", "Ġ{}", "▁{}")


class LocalJudge(LocalModel):
    """Answers with a model of this machine."""

    def __init__(self, settings: LocalJudgeSettings, machine: Machine, where: str) -> None:
        super().__init__(settings, machine, where)
        self._settings = settings

    def ask(self, inquiries: Sequence[DigitInquiry]) -> None:
        """Ask until every inquiry has an outcome.

        Raises:
            LabelingError: the model cannot be loaded, has no room for the instruction, knows no digits, or computes
                something that is no number.
        """
        from tqdm import tqdm  # noqa: PLC0415 - beside what it measures

        from smartdevdigest_ops.digesting.packed import make_packable  # noqa: PLC0415 - where a model is loaded only

        asked = [inquiry for inquiry in inquiries if inquiry.is_open]
        tokenizer, model = load_model(self.snapshot(), self._machine.model)
        make_packable(model)
        max_length = longest_prompt(self._settings.max_length, model.config)
        spellings = {digit: self._tokens_of(tokenizer, digit) for digit in range(1, 6)}
        with tqdm(total=len(asked), desc="judge", unit="question") as bar:
            for batch in _batches(asked, self._settings.batch_size):
                prompts = [self.prompt(tokenizer, inquiry, max_length=max_length, answer_tokens=1) for inquiry in batch]
                logprobs_RV = _logprobs(model, prompts)
                if not bool(logprobs_RV.isfinite().any(-1).all()):
                    raise LabelingError(
                        f"{self.name} computed logits that are no numbers, so that nothing can be read from it. Set "
                        f"model.precision to float32, or {self._where}.model to another."
                    )
                for inquiry, prompt, row in zip(batch, prompts, logprobs_RV, strict=True):
                    digits = range(1, inquiry.judgement.num_digits + 1)
                    of_digits = {str(digit): float(row[spellings[digit]].logsumexp(-1)) for digit in digits}
                    likeliest = max(of_digits, key=lambda digit: of_digits[digit])
                    choice = TokenChoice(likeliest, of_digits)
                    inquiry.take(Reply(likeliest, Usage(len(prompt), 0, 1), choices=(choice,)))
                bar.update(len(batch))

    def _tokens_of(self, tokenizer: "PreTrainedTokenizerBase", digit: int) -> list[int]:
        vocabulary = tokenizer.get_vocab()
        found = [vocabulary[token] for spelling in _SPELLINGS if (token := spelling.format(digit)) in vocabulary]
        if not found:
            raise LabelingError(
                f"The tokenizer of {self.name} has no token for the digit {digit}, with which the judge answers. Set "
                f"{self._where}.model to another."
            )
        return found


def _batches(inquiries: Sequence[DigitInquiry], size: int) -> Iterator[list[DigitInquiry]]:
    """Batches whose questions are of one document and one instruction."""

    def shared(inquiry: DigitInquiry) -> tuple[str, str]:
        return inquiry.judgement.document.url, inquiry.judgement.version

    for _, group in groupby(sorted(inquiries, key=shared), key=shared):
        alike = list(group)
        yield from (alike[start : start + size] for start in range(0, len(alike), size))


def _logprobs(model: "PreTrainedModel", prompts: Sequence[list[int]]) -> "torch.Tensor":
    """(R, V) float32: logarithms of each token's probability behind each prompt."""
    import torch

    from smartdevdigest_ops.digesting.packed import forward_packed  # noqa: PLC0415 - where a model is loaded only
    from smartdevdigest_ops.digesting.row_cache import RowCache  # noqa: PLC0415

    # Something is left of every prompt: equal ones, too, need a last token to read from.
    places = zip(*(prompt[:-1] for prompt in prompts), strict=False)
    shared = [tokens[0] for tokens in takewhile(lambda tokens: len(set(tokens)) == 1, places)]
    cache = RowCache(len(prompts), max(map(len, prompts)))
    with torch.inference_mode():
        if shared:
            first = RowCache(1, len(shared))
            forward_packed(model, first, [shared], [0])
            content = first.read(0, len(shared))
            for row in range(len(prompts)):
                cache.write(row, content)
        rests = [prompt[len(shared) :] for prompt in prompts]
        logits_RV = forward_packed(model, cache, rests, [len(shared)] * len(prompts))
        return logits_RV.float().log_softmax(-1)
