"""Answers by vLLM, on a GPU where it is installed: **not run yet**, but for what surrounds the engine.

Questions, grammar and what becomes of an answer are the project's own. What its generation has beyond the grammar is
missing: no deadline per field (an answer that does not end within the model's length is an error of its document), no
end of loops, and questions that nobody waits for any more are answered to their end. vLLM computes what prompts have
in common once by itself.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from smartdevdigest_ops.digesting.errors import GenerationError
from smartdevdigest_ops.digesting.generate import Question
from smartdevdigest_ops.digesting.grammar import answer_grammar
from smartdevdigest_ops.digesting.tracker import AnswerTracker
from smartdevdigest_ops.digesting.writer import BEHIND_FACTORS, Answer, AnswerGuide

# vLLM's most; after the grammar's mask only digits have a probability where a digit comes.
_NUM_LOGPROBS = 20


def load_llm(model_dir: Path, max_length: int, dtype: str = "auto") -> Any:
    """The engine for the model in `model_dir`, GPTQ or plain, which it tells by its config.json."""
    from vllm import LLM

    return LLM(
        model=str(model_dir),
        dtype=dtype,
        max_model_len=max_length,
        enable_prefix_caching=True,
        structured_outputs_config={"backend": "guidance"},  # llguidance: the one that reads this grammar
        logprobs_mode="processed_logprobs",
        max_logprobs=_NUM_LOGPROBS,
    )


class VllmGenerator:
    """Answers questions with one engine, as `AnswerGenerator` does with one model."""

    def __init__(self, llm: Any, guide: AnswerGuide, max_length: int) -> None:
        self._llm = llm
        self._guide = guide
        self.num_positions = max_length

    def generate(
        self, questions: Sequence[Question], *, batch_size: int, on_step: Callable[[int], None] | None = None
    ) -> list[Answer | GenerationError]:
        """The answer to each question, in order, or why there is none.

        The engine batches by itself, whatever `batch_size` is; `on_step` is called once, behind the last answer.
        """
        if not questions:
            return []
        prompts = [{"prompt_token_ids": list(question.token_ids)} for question in questions]
        parameters = [self._parameters(question) for question in questions]
        outputs = [result.outputs[0] for result in self._llm.generate(prompts, parameters, use_tqdm=False)]
        if on_step is not None:
            on_step(sum(len(output.token_ids) for output in outputs))
        answers: list[Answer | GenerationError] = []
        for question, output in zip(questions, outputs, strict=True):
            logprobs = [{token: entry.logprob for token, entry in at.items()} for at in output.logprobs]
            answer = answer_of(self._guide, output.token_ids, logprobs, factors_only=question.factors_only)
            answers.append(
                answer
                or GenerationError(f"The answer did not end within the model's length of {self.num_positions} tokens.")
            )
        return answers

    def _parameters(self, question: Question) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        grammar = answer_grammar(self._guide.settings, question.form)
        return SamplingParams(
            temperature=0.0,
            max_tokens=None,  # what the prompt leaves of the model's length
            logprobs=_NUM_LOGPROBS,
            structured_outputs=StructuredOutputsParams(grammar=grammar),
            stop=[f',"{BEHIND_FACTORS}":'] if question.factors_only else None,
            include_stop_str_in_output=True,
        )


def answer_of(
    guide: AnswerGuide,
    token_ids: Sequence[int],
    logprobs: Sequence[Mapping[int, float]],
    *,
    factors_only: bool = False,
) -> Answer | None:
    """The answer in generated tokens, with the probabilities of the digits; None where it has no end.

    `logprobs` holds, per token, the likeliest tokens at its place and itself; a digit that is not among them has
    probability 0. With `factors_only` the answer ends behind the difficulty factors.
    """
    tracker = AnswerTracker()
    factor_digits: dict[str, list[float]] = {}
    for count, (token, likeliest) in enumerate(zip(token_ids, logprobs, strict=True), 1):
        if tracker.at_digit and token in guide.digit_ids:
            weights = [math.exp(likeliest.get(digit, -math.inf)) for digit in guide.digit_ids]
            factor_digits[tracker.factor] = [round(weight / sum(weights), 6) for weight in weights]
        tracker.feed(guide.tokens.decode_bytes([token]))
        if tracker.complete or (factors_only and tracker.field == BEHIND_FACTORS):
            return Answer(tracker.text.decode(), factor_digits, (), count)
    return None
