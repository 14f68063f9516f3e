"""What surrounds the vLLM engine: its grammar by the library that vLLM hands it to, its answers, and a digester of it.

The engine itself needs a GPU (tests/ops/quantization/test_quantized_on_cuda.py). Where one is needed here, a stand-in
with its interface answers with the project's own generation by the tiny model.
"""

import json
import math
import sys
import types
from dataclasses import dataclass
from typing import Any

import llguidance
import pytest

from smartdevdigest_ops.digesting.generate import Question
from smartdevdigest_ops.digesting.grammar import AnswerForm, answer_grammar
from smartdevdigest_ops.digesting.model import DigestConfig, Digester, load_digester, write_digest_config
from smartdevdigest_ops.digesting.vllm import VllmGenerator, answer_of
from smartdevdigest_ops.digesting.writer import AnswerGuide
from smartdevdigest_ops.settings import load_settings

ANSWER = {
    "summary": "A pod runs.",
    "keywords": ["pod"],
    "difficulty_factors": {
        "technical_terms": 2, "concept_complexity": 3, "background_knowledge": 4, "code_complexity": None
    },
    "prerequisites": [],
    "technical_terms": [{"term": "pod", "explanation": "A group."}],
}  # fmt: skip


@dataclass(frozen=True)
class Document:
    title: str | None
    content: str
    language: str = "en"


@pytest.fixture(scope="module")
def digester(tiny_base_model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    for file in tiny_base_model.iterdir():
        (directory / file.name).symlink_to(file)
    write_digest_config(directory, load_settings("ci"))
    return load_digester(directory, device="cpu", precision="float32", threads=1)


@pytest.fixture(scope="module")
def guide(digester):
    return AnswerGuide(digester.tokenizer, len(digester.tokenizer), digester.settings)


class StandIn:
    """`vllm.LLM` as far as it is used: parameters in, tokens with the logarithms of their probabilities out."""

    def __init__(self, digester: Digester, guide: AnswerGuide) -> None:
        self.asked: list[Any] = []
        self._generator, self._guide = digester.generator, guide

    def generate(self, prompts: list[dict[str, Any]], parameters: list[Any], *, use_tqdm: bool) -> list[Any]:
        self.asked += parameters
        questions = []
        for prompt, asked in zip(prompts, parameters, strict=True):
            factors = next(line for line in asked.structured_outputs.grammar.splitlines() if line.startswith("rest:"))
            form = AnswerForm("ko" if "&" in asked.structured_outputs.grammar else "en", "NULL" not in factors)
            questions.append(Question(prompt["prompt_token_ids"], form, factors_only=bool(asked.stop)))
        answers = self._generator.generate(questions, batch_size=4)
        return [types.SimpleNamespace(outputs=[self._output(answer)]) for answer in answers]

    def _output(self, answer: Any) -> Any:
        token_ids = self._guide.encode(answer.text)
        digits = iter(answer.factor_digits.values())
        logprobs, text = [], b""
        for token in token_ids:
            at_digit = token in self._guide.digit_ids and text.endswith(b'":') and b"difficulty_factors" in text
            of_digits = next(digits) if at_digit else []
            likeliest = {id_: math.log(p) for id_, p in zip(self._guide.digit_ids, of_digits, strict=False) if p > 0}
            logprobs.append(
                {id_: types.SimpleNamespace(logprob=value) for id_, value in ({token: 0.0} | likeliest).items()}
            )
            text += self._guide.tokens.decode_bytes([token])
        return types.SimpleNamespace(token_ids=token_ids, logprobs=logprobs)


@pytest.fixture
def stand_in(monkeypatch, digester, guide):
    """The stand-in, with `vllm`'s two classes of parameters."""
    for name in ("vllm", "vllm.sampling_params"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules["vllm"], "SamplingParams", types.SimpleNamespace, raising=False)
    monkeypatch.setattr(
        sys.modules["vllm.sampling_params"], "StructuredOutputsParams", types.SimpleNamespace, raising=False
    )
    return StandIn(digester, guide)


def through(stand_in, digester, guide, **settings):
    """A digester of the stand-in, and the one that generates itself, with the same settings."""
    config = DigestConfig(768, digester.settings.model_copy(update=settings), digester.calibration)
    return Digester(VllmGenerator(stand_in, guide, 768), digester.tokenizer, config), Digester(
        digester.generator, digester.tokenizer, config
    )


def told(outcomes):
    """Answers, factors and parts; a digest leaves out what a deadline cut, and the engine has none."""
    return [(outcome.raw_answer, outcome.factors, outcome.covered_share, outcome.num_parts) for outcome in outcomes]


DOCUMENTS = [
    Document("Pods", "A pod holds containers that share a network. " * 4),
    Document(None, "```python\nprint(1)\n```\nA program that prints."),
    Document("쿠버네티스", "파드는 컨테이너를 담는 가장 작은 단위다. " * 4, "ko"),
]


def test_documents_are_digested_as_without_the_engine(stand_in, digester, guide):
    engine, own = through(stand_in, digester, guide)
    found, wanted = list(engine.digest(DOCUMENTS)), list(own.digest(DOCUMENTS))
    assert told(found) == told(wanted)
    assert all(outcome.valid for outcome in found)
    assert found[0].digest.difficulty_level == wanted[0].digest.difficulty_level
    assert all(asked.temperature == 0.0 and asked.stop is None for asked in stand_in.asked)


def test_a_long_document_is_read_in_parts(stand_in, digester, guide):
    long = [
        Document("Pods", "\n\n".join(f"## Part {number}\n" + "A pod holds containers. " * 20 for number in range(6)))
    ]
    engine, own = through(stand_in, digester, guide, long_documents="map_reduce")
    found = list(engine.digest(long))
    assert found[0].num_parts > 1
    assert told(found) == told(own.digest(long))


def test_difficulty_is_read_from_the_beginning_of_the_answer(stand_in, digester, guide):
    engine, own = through(stand_in, digester, guide)
    assert engine.read_difficulty(DOCUMENTS, range(3)) == pytest.approx(
        own.read_difficulty(DOCUMENTS, range(3)), abs=1e-4
    )
    assert {tuple(asked.stop) for asked in stand_in.asked} == {(',"prerequisites":',)}


def test_an_answer_that_does_not_end_is_an_error_of_its_document_alone(stand_in, digester, guide):
    whole = stand_in.generate

    def cut(prompts, parameters, **options):
        results = whole(prompts, parameters, **options)
        output = results[1].outputs[0]
        output.token_ids, output.logprobs = output.token_ids[:-3], output.logprobs[:-3]
        return results

    stand_in.generate = cut
    engine, _ = through(stand_in, digester, guide)
    outcomes = list(engine.digest(DOCUMENTS))
    assert [outcome.valid for outcome in outcomes].count(False) == 1
    failed = next(outcome for outcome in outcomes if not outcome.valid)
    assert failed.fault == "model"
    assert "did not end within the model's length of 768 tokens" in failed.error


@pytest.mark.parametrize("form", [AnswerForm("ko", True), AnswerForm("en", False)])
def test_the_grammar_is_taken_as_vllm_hands_it_over(digester, form):
    grammar = llguidance.grammar_from("grammar", answer_grammar(digester.settings, form))
    assert llguidance.LLMatcher.validate_grammar(grammar, None) == ""


def test_an_answer_is_read_with_the_probabilities_of_its_digits(guide):
    token_ids = guide.encode(json.dumps(ANSWER, separators=(",", ":")))
    at_digits = dict(zip(guide.digit_ids, map(math.log, (0.1, 0.2, 0.4, 0.2, 0.1)), strict=True))
    only_some = {guide.digit_ids[1]: math.log(0.3), guide.digit_ids[2]: math.log(0.1)}
    logprobs = [only_some if token == guide.digit_ids[1] else at_digits for token in token_ids]
    answer = answer_of(guide, [*token_ids, 1], [*logprobs, {}])
    assert json.loads(answer.text) == ANSWER
    assert answer.num_new_tokens == len(token_ids)
    names = list(ANSWER["difficulty_factors"])
    assert answer.factor_digits == {
        names[0]: [0, 0.75, 0.25, 0, 0],
        names[1]: [0.1, 0.2, 0.4, 0.2, 0.1],
        names[2]: [0.1, 0.2, 0.4, 0.2, 0.1],
    }


def test_an_answer_without_its_end_is_none(guide):
    token_ids = guide.encode(json.dumps(ANSWER, separators=(",", ":")))[:-3]
    assert answer_of(guide, token_ids, [{token: 0.0} for token in token_ids]) is None
