"""What of the vLLM engine runs without vLLM: its grammar by the library that vLLM hands it to, and its answers."""

import json
import math

import llguidance
import pytest

from smartdevdigest_ops.digesting.grammar import answer_grammar
from smartdevdigest_ops.digesting.writer import AnswerGuide
from smartdevdigest_ops.serving.vllm_engine import answer_of

ANSWER = {
    "summary": "A pod runs.",
    "keywords": ["pod"],
    "difficulty_factors": {
        "technical_terms": 2, "concept_complexity": 3, "background_knowledge": 4, "code_complexity": None
    },
    "prerequisites": [],
    "technical_terms": [{"term": "pod", "explanation": "A group."}],
}  # fmt: skip


@pytest.fixture(scope="module")
def guide(digester):
    return AnswerGuide(digester.tokenizer, len(digester.tokenizer), digester.settings)


@pytest.mark.parametrize("with_code", [True, False])
def test_the_grammar_is_taken_as_vllm_hands_it_over(digester, with_code):
    grammar = llguidance.grammar_from("grammar", answer_grammar(digester.settings, with_code=with_code))
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
