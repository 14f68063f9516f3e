"""Answers drawn at a temperature."""

import json

import pytest

from smartdevdigest_ops.digesting.generate import AnswerGenerator, Question
from smartdevdigest_ops.digesting.grammar import AnswerForm
from smartdevdigest_ops.digesting.sampling import Sampler
from smartdevdigest_ops.digesting.writer import AnswerGuide
from smartdevdigest_ops.settings import AnswerSettings

FORM = AnswerForm("en", with_code=False)
CAPS = AnswerSettings(max_summary_characters=30, max_keywords=1, max_terms=1, max_prerequisites=0, max_new_tokens=220)


@pytest.fixture(scope="module")
def tiny(tiny_base_model):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_base_model, dtype=torch.float32).eval()
    return model, tokenizer, AnswerGuide(tokenizer, model.config.vocab_size, CAPS)


def draw(tiny, prompts: list[str], seeds: list[int], temperature: float = 1.0) -> list[str]:
    model, tokenizer, guide = tiny
    questions = [
        Question(tokenizer(prompt)["input_ids"], FORM, sampler=Sampler(temperature, seed))
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    return [answer.text for answer in AnswerGenerator(model, guide).generate(questions, batch_size=4)]


def test_an_answer_is_drawn_alike_alone_and_in_a_batch_and_differs_with_the_seed(tiny):
    prompts = ["A short prompt.", "Another prompt, which is a good deal longer than the first one is."]
    together = draw(tiny, prompts, [1, 2])
    assert together == [*draw(tiny, prompts[:1], [1]), *draw(tiny, prompts[1:], [2])]
    assert all(json.loads(text)["summary"] for text in together)
    assert draw(tiny, prompts, [3, 2])[0] != together[0]


def test_temperature_zero_is_greedy(tiny):
    model, tokenizer, guide = tiny
    ids = tokenizer("A short prompt.")["input_ids"]
    assert draw(tiny, ["A short prompt."], [1], temperature=0.0) == [
        answer.text for answer in AnswerGenerator(model, guide).generate([Question(ids, FORM)], batch_size=1)
    ]


def test_tokens_are_drawn_by_their_probability():
    import torch

    sampler = Sampler(temperature=2.0, seed=0)
    logits = torch.tensor([float("-inf"), 0.0, 2.0 * torch.log(torch.tensor(3.0)).item()])
    draws = [sampler.draw(logits) for _ in range(2000)]
    assert draws.count(0) == 0
    assert draws.count(2) / len(draws) == pytest.approx(0.75, abs=0.03)
