"""Every answer is JSON of the grammar within its budget, whatever the model prefers."""

import json
import random
import unicodedata

import pytest
import regex

from smartdevdigest_ops.digesting.errors import DigestingError, GenerationError
from smartdevdigest_ops.digesting.grammar import FIELDS, AnswerForm, plan_budget
from smartdevdigest_ops.digesting.prompt import answer_text
from smartdevdigest_ops.digesting.tracker import AnswerTracker
from smartdevdigest_ops.digesting.writer import AnswerGuide, AnswerWriter, loops
from smartdevdigest_ops.settings import DigestingSettings

ENGLISH = AnswerForm("en", with_code=True)
HANGUL = regex.compile(r"\p{Hangul}")
PADDED_VOCABULARY = 1100  # wider than the tokenizer, as models with padded embeddings are


def guide_of(tokenizer, **settings) -> AnswerGuide:
    return AnswerGuide(tokenizer, PADDED_VOCABULARY, DigestingSettings(**settings))


@pytest.fixture(scope="module")
def tokenizer(tiny_base_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base_model)


@pytest.fixture(scope="module")
def least_tokens(tokenizer) -> int:
    """The smallest budget that is accepted."""
    with pytest.raises(DigestingError) as refused:
        plan_budget(64, lambda text: len(guide_of(tokenizer).encode(text)))
    return int(str(refused.value).split("Set it to ")[1].split()[0])


def write(guide: AnswerGuide, choose, form: AnswerForm) -> AnswerWriter:
    """An answer by a writer whose every free choice is `choose(allowed token ids)`."""
    import numpy as np

    writer = AnswerWriter(guide, form)
    mask = np.zeros((1, (guide.vocab_size + 31) // 32), dtype=np.int32)
    while not writer.complete:
        token = writer.forced_token()
        if token is None:
            writer.fill_mask(mask, 0)
            allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
            assert allowed.size
            assert allowed.max() < 1024, "a padding id was allowed"
            token = int(choose(allowed))
        writer.accept(token)
        assert writer.num_new_tokens <= guide.settings.max_new_tokens
    return writer


def assert_is_of_the_contract(text: str, settings: DigestingSettings, form: AnswerForm) -> None:
    answer = json.loads(text)
    assert tuple(answer) == FIELDS
    assert json.dumps(answer, ensure_ascii=False, separators=(",", ":")) == text
    assert 1 <= len(answer["summary"]) <= settings.max_summary_characters
    assert 1 <= len(answer["keywords"]) <= settings.max_keywords
    assert len(answer["prerequisites"]) <= settings.max_prerequisites
    assert 1 <= len(answer["technical_terms"]) <= settings.max_terms
    strings = [answer["summary"], *answer["keywords"], *answer["prerequisites"]]
    strings += [text for term in answer["technical_terms"] for text in term.values()]
    assert all(string.strip() for string in strings)
    # Unassigned ones (Cn) are left out: Python's Unicode tables are older than the grammar's.
    assert not {unicodedata.category(c) for c in "".join(strings)} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    *factors, code = answer["difficulty_factors"].values()
    assert all(factor in range(1, 6) for factor in factors)
    assert code in range(1, 6) if form.with_code else code is None
    prose = [answer["summary"], *(term["explanation"] for term in answer["technical_terms"])]
    assert_is_held_to(form.language, prose, answer["prerequisites"])


def assert_is_held_to(language: str, prose: list[str], notes: list[str]) -> None:
    if language == "en":
        assert not any(map(HANGUL.search, prose + notes))
    else:
        assert all(HANGUL.search(string[:41]) for string in prose)


def never_ends_a_string(guide, draw):
    endless = {i for i in range(1024) if b'"' not in guide.tokens.decode_bytes([i])}
    return lambda allowed: draw.choice([i for i in allowed if i in endless] or list(allowed))


def prefers_single_bytes(guide, draw):
    single = {i for i in range(1024) if len(guide.tokens.decode_bytes([i])) == 1}
    return lambda allowed: draw.choice([i for i in allowed if i in single])


def prefers_fragments_of_characters(guide, draw):
    high = {i for i in range(1024) if any(byte >= 0x80 for byte in guide.tokens.decode_bytes([i]))}
    return lambda allowed: draw.choice([i for i in allowed if i in high] or list(allowed))


def prefers_escapes(guide, draw):
    escapes = {i for i in range(1024) if b"\\" in guide.tokens.decode_bytes([i])}
    return lambda allowed: draw.choice([i for i in allowed if i in escapes] or list(allowed))


def opens_ever_more_items(guide, draw):
    openers = {i for i in range(1024) if b"," in guide.tokens.decode_bytes([i])}
    quotes = {i for i in range(1024) if b'"' in guide.tokens.decode_bytes([i])}
    return lambda allowed: draw.choice(
        [i for i in allowed if i in openers] or [i for i in allowed if i in quotes] or list(allowed)
    )


def anything(guide, draw):
    return draw.choice


@pytest.mark.parametrize(
    "strategy",
    [
        never_ends_a_string,
        prefers_single_bytes,
        prefers_fragments_of_characters,
        prefers_escapes,
        opens_ever_more_items,
        anything,
    ],
)
@pytest.mark.parametrize("form", [AnswerForm("en", False), AnswerForm("ko", True)])
def test_every_answer_ends_within_its_budget_and_is_json_of_the_contract(tokenizer, least_tokens, strategy, form):
    for extra in (0, 1, 7, 60, 300):
        guide = guide_of(tokenizer, max_new_tokens=least_tokens + extra, max_prerequisites=extra % 3)
        for seed in range(4):
            writer = write(guide, strategy(guide, random.Random(seed)), form)
            assert_is_of_the_contract(writer.answer().text, guide.settings, form)


def test_korean_prose_that_is_shorter_than_what_may_stand_before_its_hangul_has_some(tokenizer, least_tokens):
    caps = {"max_summary_characters": 21, "max_explanation_characters": 11}
    guide = guide_of(tokenizer, max_new_tokens=least_tokens + 300, **caps)
    form = AnswerForm("ko", with_code=False)
    for strategy in (never_ends_a_string, prefers_single_bytes, anything):
        writer = write(guide, strategy(guide, random.Random(5)), form)
        assert_is_of_the_contract(writer.answer().text, guide.settings, form)


def test_a_field_that_never_ends_leaves_the_others_their_share(tokenizer):
    guide = guide_of(tokenizer, max_new_tokens=500, max_summary_characters=2000)
    writer = write(guide, never_ends_a_string(guide, random.Random(1)), ENGLISH)
    answer = writer.answer()
    assert answer.cut_fields[0] == "summary"
    assert len(json.loads(answer.text)["technical_terms"][0]["explanation"]) > 10


def test_a_taught_answer_is_written_as_it_is(tokenizer, sample_labels):
    # Labels are within the caps, so guided writing must be able to say each of them word by word.
    guide = guide_of(tokenizer, max_new_tokens=2000)
    for label in list(sample_labels.values())[::5]:
        with_code = label.difficulty_factors.code_complexity is not None
        text = answer_text(label)
        tokens = iter(tokenizer(text, add_special_tokens=False)["input_ids"])
        matcher = guide.matcher(AnswerForm(label.language, with_code))
        assert all(matcher.consume_token(token) for token in tokens)
        assert matcher.is_stopped()


def test_a_budget_that_cannot_hold_an_answer_is_refused_with_the_number_that_can(tokenizer, least_tokens):
    with pytest.raises(DigestingError, match=f"Set it to {least_tokens} or more"):
        _ = guide_of(tokenizer, max_new_tokens=least_tokens - 1).budget
    deadlines = list(guide_of(tokenizer, max_new_tokens=least_tokens).budget.deadlines.values())
    assert deadlines == sorted(deadlines)


def test_a_vocabulary_smaller_than_the_tokenizers_is_refused(tokenizer):
    with pytest.raises(DigestingError, match="do not belong together"):
        AnswerGuide(tokenizer, 1000, DigestingSettings())


def test_a_token_against_the_grammar_is_an_error_and_no_answer(tokenizer):
    writer = AnswerWriter(guide_of(tokenizer), ENGLISH)
    with pytest.raises(GenerationError, match="cannot follow"):
        writer.accept(tokenizer.convert_tokens_to_ids("["))


def test_a_string_that_repeats_itself_is_closed():
    phrase = "the same words once more "
    assert loops(phrase + phrase)
    assert not loops(phrase)
    assert not loops("짧은 글")


@pytest.mark.parametrize(
    ("written", "closing"),
    [
        ('{"summary":"', '-"'),
        ('{"summary":"a', '"'),
        ('{"summary":"a\\', None),
        ('{"summary":"a\\\\', '"'),
        ('{"summary":"a","keyw', None),
        ('{"summary":"a","keywords":["b', '"]'),
        ('{"summary":"a","keywords":["b"', "]"),
        ('{"summary":"a","keywords":["b","', '-"]'),
        ('{"summary":"a","keywords":["b"],"difficulty_factors":{"technical_terms":', None),
        ('{"summary":"a","keywords":["b"],"prerequisites":[', "]"),
        ('{"summary":"a","keywords":["b"],"technical_terms":[{"term":"', '-","explanation":"-"}]}'),
        ('{"summary":"a","keywords":["b"],"technical_terms":[{"term":"x","explanation":"y', '"}]}'),
        ('{"summary":"a","keywords":["b"],"technical_terms":[{"term":"x","explanation":"y"}', "]}"),
    ],
)
def test_the_shortest_end_of_a_field_is_known_at_every_place(written, closing):
    tracker = AnswerTracker()
    tracker.feed(written.encode())
    assert tracker.closing() == closing


@pytest.mark.parametrize(
    ("written", "closing"),
    [
        ('{"summary":"', 'ㆍ"'),
        ('{"summary":"HTTP', 'ㆍ"'),
        ('{"summary":"HTTP는', '"'),
        ('{"summary":"a","keywords":["b', '"]'),
        ('{"summary":"a","keywords":["b"],"technical_terms":[{"term":"', '-","explanation":"ㆍ"}]}'),
        ('{"summary":"a","keywords":["b"],"technical_terms":[{"term":"x","explanation":"y', 'ㆍ"}]}'),
    ],
)
def test_korean_prose_ends_with_hangul_in_it(written, closing):
    tracker = AnswerTracker(is_korean=True)
    tracker.feed(written.encode())
    assert tracker.closing() == closing


def test_no_string_is_closed_inside_a_character():
    tracker = AnswerTracker()
    tracker.feed('{"summary":"가'.encode()[:-1])
    assert tracker.closing() is None
    tracker.feed("가".encode()[-1:])
    assert tracker.open_string == "가"
    assert tracker.closing() == '"'


def test_the_digits_place_is_known_with_its_factor():
    tracker = AnswerTracker()
    tracker.feed(b'{"summary":"difficulty_factors:","keywords":["b"],"difficulty_factors":')
    assert not tracker.at_digit
    tracker.feed(b'{"technical_terms":')
    assert tracker.at_digit
    assert tracker.factor == "technical_terms"
    tracker.feed(b"3,")
    assert not tracker.at_digit
