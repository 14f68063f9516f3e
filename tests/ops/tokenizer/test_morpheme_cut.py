"""Korean words cut at the borders of their morphemes."""

import pytest
from tokenizer_samples import segments_of, write_base

from smartdevdigest_ops.tokenizer.base import open_base
from smartdevdigest_ops.tokenizer.learn import learn_merges
from smartdevdigest_ops.tokenizer.morphemes import MorphemeCut


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return open_base(write_base(tmp_path_factory.mktemp("morphemes") / "base", [("t", "h"), ("th", "e")]))


@pytest.fixture(scope="module")
def cut(base):
    return MorphemeCut(base)


def parts(base, cut, text: str) -> list[str]:
    (word,) = base.pre_tokens(text)
    found = cut(word, tuple(base.segment(word)))
    return [base.data("".join(base.symbols[i] for i in ids)).decode() for ids in found]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("컨테이너를", ["컨테이너", "를"]),
        (" 컨테이너를", [" 컨테이너", "를"]),
        ("학교에서는", ["학교", "에서", "는"]),
        ("했다", ["했", "다"]),  # 했 is 하 and 았 in one syllable
        ("then", ["then"]),
        (" the", [" the"]),
    ],
)
def test_a_word_is_cut_between_morphemes_and_never_inside_a_syllable(base, cut, word, expected):
    assert parts(base, cut, word) == expected


def test_a_border_inside_a_base_token_is_none(tmp_path, cut):
    joined = open_base(write_base(tmp_path / "base", [("ë", "¥")]))
    assert "".join(parts(joined, MorphemeCut(joined), "컨테이너를")) == "컨테이너를"
    # The base joins the last byte of 너 with the first of 를: the border between them is inside a token.
    last, first = "너".encode()[-1:], "를".encode()[:1]
    spelled = {value: key for key, value in _alphabet(joined).items()}
    across = open_base(write_base(tmp_path / "across", [(spelled[last[0]], spelled[first[0]])]))
    assert parts(across, MorphemeCut(across), "컨테이너를") == ["컨테이너를"]


def _alphabet(base):
    return {character: base.data(character)[0] for character in base.vocabulary if len(character) == 1}


def test_no_merge_is_learned_across_a_border(base, cut):
    words = [base.pre_tokens(text)[0] for text in ("컨테이너를", "컨테이너는", "컨테이너의")]
    whole = segments_of(base, dict.fromkeys(words, 5))
    in_parts: dict = {}
    for ids, vote in whole.items():
        for part in cut("".join(base.symbols[i] for i in ids), ids):
            in_parts[part] = in_parts.get(part, 0) + vote
    tokens = {}
    for name, segments in (("whole", whole), ("parts", in_parts)):
        table = learn_merges(base, segments, num_new_tokens=99, min_votes=2, max_token_characters=24)
        tokens[name] = {table.data(symbol).decode("utf-8", "replace") for symbol in table.symbols.values()}
    assert "컨테이너를" in tokens["whole"]
    assert "컨테이너" in tokens["parts"]
    assert not {"컨테이너를", "컨테이너는", "컨테이너의", "너를"} & tokens["parts"]
