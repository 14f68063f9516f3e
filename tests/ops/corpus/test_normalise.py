"""What normalising changes, and that it leaves code alone."""

import time
import unicodedata

import pytest

from smartdevdigest_ops.corpus.language import words_of
from smartdevdigest_ops.corpus.normalise import fold, normalise_text, normalise_title
from smartdevdigest_ops.corpus.quality import find_fault
from smartdevdigest_ops.settings import CorpusSettings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (unicodedata.normalize("NFD", "한국어 café"), "한국어 café"),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("\ufeffa\u200bb\u00adc\x00d\u202ee", "abcde"),
        ("a\u00a0b\u3000c", "a b c"),
        ("a  \nb\t\n", "a\nb"),
        ("a\n\n\n\n\n\nb", "a\n\n\nb"),
        ("\n \n  a\n\n", "  a"),
        ("a <!-- note\n --> b", "a  b"),
        ("x<script>alert('y')</script>z", "xz"),
        ("a <!-- never closed", "a <!-- never closed"),
        ('<div class="a">한 <b>글</b></div><br/>끝', "한 글 끝"),
        ("<tr><td>a</td><td>b</td></tr>", "a b"),
        ("| a<br>b | c |", "| a b | c |"),
        ("a &amp; b &lt;c&gt; &#x200B;&#44032;&nbsp;d", "a & b <c> 가 d"),
        (
            "Vec<T>, Option<A>, <your-name>, <https://a.example/>",
            "Vec<T>, Option<A>, <your-name>, <https://a.example/>",
        ),
        ("https://a.example/?a=1&copy=2", "https://a.example/?a=1&copy=2"),
        ("![](https://a.example/pixel.gif?w=1)", "![](https://a.example/pixel.gif?w=1)"),
        ("👩\u200d💻 코드", "👩\u200d💻 코드"),
    ],
)
def test_prose_is_normalised(text: str, expected: str) -> None:
    assert normalise_text(text) == expected


def test_code_keeps_every_byte_but_its_newline_style() -> None:
    decomposed = unicodedata.normalize("NFD", "한")
    code = f"```html\n<div>&amp;</div>  \n\n\n\n\n<!-- c -->\u200b{decomposed}\n```"
    span = f"`<b>&lt;{decomposed}\u200b</b>`"
    text = f"a <b>x</b>\n{code}\nb {span}  \nc"
    assert normalise_text(text.replace("\n", "\r\n")) == f"a x\n{code}\nb {span}\nc"


def test_a_title_comes_out_on_one_line_or_not_at_all() -> None:
    assert normalise_title(" Pod &amp;\n <em>Service</em>\u200b ") == "Pod & Service"
    assert normalise_title(" \u200b ") is None
    assert normalise_title(None) is None


def test_folding_ignores_case_width_and_white_space() -> None:
    assert fold("ＫＵＢＥ  한국\n어") == fold("kube 한국 어") != fold("kube 한국어")


@pytest.mark.parametrize("unit", ["<!--", "<script ", "<b ", "<", " ", "`", "&", "](", "[a](", "\n\n ", "<td>", "> - "])
def test_hostile_repetition_takes_no_quadratic_time(unit: str) -> None:
    page = f"a{unit * (400_000 // len(unit))}b"
    started = time.process_time()
    words_of(normalise_text(page))
    find_fault(page, CorpusSettings())
    assert time.process_time() - started < 5
