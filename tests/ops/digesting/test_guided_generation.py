import json

import pytest

from smartdevdigest_ops.digesting.errors import GenerationError
from smartdevdigest_ops.digesting.generate import generate_answers
from smartdevdigest_ops.digesting.prompt import build_prompt
from smartdevdigest_ops.digesting.writer import AnswerGuide, AnswerWriter
from smartdevdigest_ops.settings import DigestingSettings

SETTINGS = DigestingSettings(max_new_tokens=330)


@pytest.fixture(scope="module")
def tiny(tiny_base_model):
    """Model, tokenizer and guide."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_base_model, dtype=torch.float32).eval()
    # Random weights as initialised answer every prompt alike; larger ones tell prompts apart.
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.mul_(4)
    return model, tokenizer, AnswerGuide(tokenizer, model.config.vocab_size, SETTINGS)


def prompts_of(tokenizer, documents):
    return [
        build_prompt(tokenizer, title=d.title, content=d.content, language=d.language, max_tokens=200 + 9 * i).token_ids
        for i, d in enumerate(documents)
    ]


def test_every_answer_of_a_random_model_is_json_within_the_budget(tiny, sample_documents):
    model, tokenizer, guide = tiny
    documents = [next(d for d in sample_documents if d.language == language) for language in ("ko", "en")]
    documents += sample_documents[20:24]
    codes = [True, False] * 3
    steps = []
    answers = generate_answers(model, guide, prompts_of(tokenizer, documents), codes, on_step=steps.append)
    assert len(answers) == len(documents)
    for answer, code in zip(answers, codes, strict=True):
        assert json.loads(answer.text)["summary"]
        assert answer.num_new_tokens <= SETTINGS.max_new_tokens
        assert len(answer.factor_digits) == 3 + code
        assert all(sum(digits) == pytest.approx(1, abs=1e-4) for digits in answer.factor_digits.values())
    assert sum(steps) == sum(answer.num_new_tokens for answer in answers)


def test_a_document_gets_the_same_answer_alone_and_in_a_batch(tiny, sample_documents):
    model, tokenizer, guide = tiny
    prompts = prompts_of(tokenizer, sample_documents[:5])
    codes = [False, True, False, True, True]
    together = generate_answers(model, guide, prompts, codes)
    assert len({answer.text for answer in together}) > 1
    for prompt, code, answer in zip(prompts, codes, together, strict=True):
        alone = generate_answers(model, guide, [prompt], [code])[0]
        assert (alone.text, alone.num_new_tokens) == (answer.text, answer.num_new_tokens)
        for name, digits in alone.factor_digits.items():
            assert digits == pytest.approx(answer.factor_digits[name], abs=1e-4)


def test_the_cached_answer_is_the_greedy_one(tiny, sample_documents):
    import torch

    model, tokenizer, guide = tiny
    prompt = prompts_of(tokenizer, sample_documents[:1])[0]
    answer = generate_answers(model, guide, [prompt], [False])[0]
    # Reference: the whole sequence anew for each token, no cache, and transformers' own token order.
    writer, ids = AnswerWriter(guide, with_code=False), list(prompt)
    import numpy as np

    mask = np.zeros((1, (guide.vocab_size + 31) // 32), dtype=np.int32)
    while not writer.complete:
        token = writer.forced_token()
        if token is None:
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0, -1]
            writer.fill_mask(mask, 0)
            allowed = torch.from_numpy(np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")))
            if writer.at_digit:
                allowed = torch.tensor(guide.digit_ids)
            token = int(allowed[logits[allowed].argmax()])
        writer.accept(token)
        ids.append(token)
    assert writer.answer().text == answer.text


def test_a_model_that_computes_no_numbers_is_an_error(tiny, sample_documents):
    import copy

    import torch

    model, tokenizer, guide = tiny
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("nan"))
    with pytest.raises(GenerationError, match="not finite numbers"):
        generate_answers(broken, guide, prompts_of(tokenizer, sample_documents[:1]), [False])
