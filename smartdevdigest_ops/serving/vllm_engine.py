"""Digests by vLLM, on a GPU where it is installed: **not run yet**, but for the reading of answers.

The prompt, the grammar and what becomes of an answer are the project's own. What the project's generation has beyond
the grammar is missing: no deadline per field (an answer that does not end within the model's length is an error of its
document), no end of loops, and a batch that nobody waits for any more is digested to its end.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from smartdevdigest_ops.digesting.answer import compose_digest, read_answer
from smartdevdigest_ops.digesting.grammar import answer_grammar
from smartdevdigest_ops.digesting.model import DigestConfig, DigestOutcome, Document, failed_outcome, read_digest_config
from smartdevdigest_ops.digesting.prompt import Prompt, PromptError, build_prompt
from smartdevdigest_ops.digesting.sections import has_code
from smartdevdigest_ops.digesting.tracker import AnswerTracker
from smartdevdigest_ops.digesting.writer import Answer, AnswerGuide

# vLLM's most; after the grammar's mask only digits have a probability where a digit comes.
_NUM_LOGPROBS = 20


def load_vllm_engine(model_dir: Path) -> "VllmEngine":
    """The model in `model_dir`, GPTQ or plain, which vLLM tells by its config.json.

    Raises:
        DigestingError: its digest_config.json cannot be used.
    """
    from vllm import LLM

    config = read_digest_config(model_dir)
    llm = LLM(
        model=str(model_dir),
        max_model_len=config.max_length,
        structured_outputs_config={"backend": "guidance"},  # llguidance: the one that reads this grammar
        logprobs_mode="processed_logprobs",
        max_logprobs=_NUM_LOGPROBS,
    )
    return VllmEngine(llm, config)


class VllmEngine:
    """Answers with a digest per document."""

    def __init__(self, llm: Any, config: DigestConfig) -> None:
        self.settings = config.digesting
        self._calibration = config.calibration
        self._llm = llm
        self._max_length = config.max_length
        self._tokenizer = llm.get_tokenizer()
        self._guide = AnswerGuide(self._tokenizer, len(self._tokenizer), self.settings)

    def digest(
        self, documents: Sequence[Document], *, on_step: Callable[[int], None] | None = None
    ) -> Iterator[DigestOutcome]:
        """One outcome per document, in order; `on_step` is not called."""
        started = time.perf_counter()
        prompts: list[Prompt | PromptError] = [self._prompt(document) for document in documents]
        asked = [index for index, prompt in enumerate(prompts) if isinstance(prompt, Prompt)]
        outputs = self._llm.generate(
            [{"prompt_token_ids": prompt.token_ids} for prompt in prompts if isinstance(prompt, Prompt)],
            [self._parameters(documents[index]) for index in asked],
            use_tqdm=False,
        )
        seconds = (time.perf_counter() - started) / max(1, len(documents))
        completions = {index: output.outputs[0] for index, output in zip(asked, outputs, strict=True)}
        for index, (document, prompt) in enumerate(zip(documents, prompts, strict=True)):
            if isinstance(prompt, PromptError):
                yield failed_outcome(index, prompt, seconds)
            else:
                yield self._outcome(index, document, prompt, completions[index], seconds)

    def _prompt(self, document: Document) -> Prompt | PromptError:
        """The prompt, or why there is none."""
        try:
            return build_prompt(
                self._tokenizer,
                title=document.title,
                content=document.content,
                language=document.language,
                max_tokens=self._max_length - self.settings.max_new_tokens,
            )
        except PromptError as error:
            return error

    def _parameters(self, document: Document) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        grammar = answer_grammar(self.settings, with_code=has_code(document.content))
        return SamplingParams(
            temperature=0.0,
            max_tokens=None,  # what the prompt leaves of the model's length
            logprobs=_NUM_LOGPROBS,
            structured_outputs=StructuredOutputsParams(grammar=grammar),
        )

    def _outcome(
        self, index: int, document: Document, prompt: Prompt, completion: Any, seconds: float
    ) -> DigestOutcome:
        logprobs = [{token: entry.logprob for token, entry in at.items()} for at in completion.logprobs]
        answer = answer_of(self._guide, completion.token_ids, logprobs)
        if answer is None:
            error = f"The answer did not end within the model's length of {self._max_length} tokens."
            num_tokens = len(completion.token_ids)
            return DigestOutcome(
                index, None, None, prompt.covered_share, num_tokens, seconds, error=error, fault="model"
            )
        digest, corrections = compose_digest(
            read_answer(answer, self.settings),
            title=document.title,
            content=document.content,
            settings=self.settings,
            seconds=seconds,
            calibrate=partial(self._calibration.apply, language=document.language),
        )
        raw = json.loads(answer.text)
        return DigestOutcome(index, digest, raw, prompt.covered_share, answer.num_new_tokens, seconds, corrections)


def answer_of(guide: AnswerGuide, token_ids: Sequence[int], logprobs: Sequence[Mapping[int, float]]) -> Answer | None:
    """The answer in generated tokens, with the probabilities of the digits; None where it has no end.

    `logprobs` holds, per token, the likeliest tokens at its place and itself; a digit that is not among them has
    probability 0.
    """
    tracker = AnswerTracker()
    factor_digits: dict[str, list[float]] = {}
    for count, (token, likeliest) in enumerate(zip(token_ids, logprobs, strict=True), 1):
        if tracker.at_digit and token in guide.digit_ids:
            weights = [math.exp(likeliest.get(digit, -math.inf)) for digit in guide.digit_ids]
            factor_digits[tracker.factor] = [round(weight / sum(weights), 6) for weight in weights]
        tracker.feed(guide.tokens.decode_bytes([token]))
        if tracker.complete:
            return Answer(tracker.text.decode(), factor_digits, (), count)
    return None
