import json

import pytest

from smartdevdigest_ops.digesting.errors import DigestingError, GenerationError
from smartdevdigest_ops.digesting.generate import AnswerGenerator, Question
from smartdevdigest_ops.digesting.grammar import AnswerForm
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


def generate_answers(model, guide, prompts, codes, *, batch_size=8, num_shared=0, on_step=None):
    forms = [AnswerForm("en", code) for code in codes]
    questions = [Question(prompt, form, num_shared) for prompt, form in zip(prompts, forms, strict=True)]
    return AnswerGenerator(model, guide).generate(questions, batch_size=batch_size, on_step=on_step)


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


def test_rows_that_are_refilled_and_prompts_with_a_shared_beginning_answer_as_alone(tiny, sample_documents):
    model, tokenizer, guide = tiny
    prompts = prompts_of(tokenizer, [d for d in sample_documents if d.language == "en"][:7])
    num_shared = next(i for i, tokens in enumerate(zip(*prompts, strict=False)) if len(set(tokens)) > 1)
    assert num_shared > 10
    codes = [True, False] * 3 + [True]
    refilled = generate_answers(model, guide, prompts, codes, batch_size=3, num_shared=num_shared)
    alone = [generate_answers(model, guide, [p], [c])[0] for p, c in zip(prompts, codes, strict=True)]
    assert [answer.text for answer in refilled] == [answer.text for answer in alone]


def test_forced_tokens_take_no_steps_of_their_own(tiny, sample_documents):
    model, tokenizer, guide = tiny
    steps = []
    answer = generate_answers(model, guide, prompts_of(tokenizer, sample_documents[:1]), [True], on_step=steps.append)
    assert sum(steps) == answer[0].num_new_tokens
    assert len(steps) < answer[0].num_new_tokens - 20  # the skeleton's


def test_an_answer_of_factors_only_ends_behind_them(tiny, sample_documents):
    model, tokenizer, guide = tiny
    prompt = prompts_of(tokenizer, sample_documents[:1])[0]
    generator = AnswerGenerator(model, guide)
    whole, short = (
        generator.generate([Question(prompt, AnswerForm("en", True), factors_only=only)], batch_size=1)[0]
        for only in (False, True)
    )
    assert short.factor_digits == whole.factor_digits
    assert whole.text.startswith(short.text)
    assert short.num_new_tokens < whole.num_new_tokens


def test_packed_steps_compute_what_the_model_computes_with_a_sliding_window_too():
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    from smartdevdigest_ops.digesting.packed import forward_packed, make_packable
    from smartdevdigest_ops.digesting.row_cache import RowCache

    torch.manual_seed(3)
    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = MistralConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, sliding_window=5)
    model = MistralForCausalLM(config).eval()
    texts = [torch.randint(50, (length,)).tolist() for length in (12, 3, 9)]
    with torch.inference_mode():
        expected = torch.stack([model(torch.tensor([text])).logits[0, -1] for text in texts])
        make_packable(model)
        cache = RowCache(3, 12)
        forward_packed(model, cache, [text[:2] for text in texts], [0, 0, 0])
        found = forward_packed(model, cache, [text[2:] for text in texts], [2, 2, 2])
        assert torch.allclose(found, expected, atol=1e-5)
        again = torch.stack([model(torch.tensor([text])).logits[0, -1] for text in texts])
        assert torch.allclose(again, expected, atol=1e-6)


def test_attention_that_is_not_computed_here_is_refused():
    from transformers import Gemma2Config, Gemma2ForCausalLM

    from smartdevdigest_ops.digesting.packed import make_packable

    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
    with pytest.raises(DigestingError, match="attn_logit_softcapping"):
        make_packable(Gemma2ForCausalLM(Gemma2Config(**sizes, num_attention_heads=4, num_key_value_heads=2)))


def test_the_cached_answer_is_the_greedy_one(tiny, sample_documents):
    import torch

    model, tokenizer, guide = tiny
    prompt = prompts_of(tokenizer, sample_documents[:1])[0]
    answer = generate_answers(model, guide, [prompt], [False])[0]
    # Reference: the whole sequence anew for each token, no cache, and transformers' own token order.
    writer, ids = AnswerWriter(guide, AnswerForm("en", with_code=False)), list(prompt)
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
    (found,) = generate_answers(broken, guide, prompts_of(tokenizer, sample_documents[:1]), [False])
    assert isinstance(found, GenerationError)
    assert "not finite numbers" in str(found)


def test_a_document_whose_numbers_break_is_an_error_alone_and_leaves_its_row_clean(tiny, sample_documents):
    import copy

    import torch

    model, tokenizer, guide = tiny
    broken = copy.deepcopy(model)
    poison = 1000
    with torch.no_grad():
        broken.set_input_embeddings(torch.nn.Embedding.from_pretrained(model.get_input_embeddings().weight.clone()))
        broken.get_input_embeddings().weight[poison] = float("nan")
    prompts = [[t for t in p if t != poison] for p in prompts_of(tokenizer, sample_documents[:4])]
    expected = generate_answers(model, guide, prompts, [False] * 4)
    poisoned = [*prompts[:1], [*prompts[1][:-1], poison, prompts[1][-1]], *prompts[2:]]
    found = generate_answers(broken, guide, poisoned, [False] * 4, batch_size=2)
    assert isinstance(found[1], GenerationError)
    assert [found[i].text for i in (0, 2, 3)] == [expected[i].text for i in (0, 2, 3)]
