import pytest

from smartdevdigest_ops.contracts import Term
from smartdevdigest_ops.digesting.answer import Reading
from smartdevdigest_ops.digesting.merge import merge_factors, merge_readings
from smartdevdigest_ops.digesting.sections import next_part
from smartdevdigest_ops.settings import DigestingSettings


def reading(keywords=(), *, code=None, level=2.0, summary="S."):
    factors = dict.fromkeys(("technical_terms", "concept_complexity", "background_knowledge"), level)
    terms = tuple(Term(term=keyword, explanation=f"{keyword} in {summary}") for keyword in keywords)
    return Reading(summary, tuple(keywords), factors | {"code_complexity": code}, tuple(keywords), terms, num_cut=1)


def test_what_more_parts_name_comes_first_then_what_comes_earlier():
    parts = [reading(["pod", "node"], summary="1."), reading(["Node", "disk"], summary="2."), reading(["disk"])]
    merged = merge_readings(parts, [1, 1, 1], reading(summary="Whole."), DigestingSettings(max_keywords=2))
    assert merged.keywords == ("node", "disk")
    assert merged.prerequisites == ("node", "disk", "pod")
    assert merged.terms[0].explanation == "node in 1."
    assert merged.summary == "Whole."
    assert merged.num_cut == 3


def test_factors_are_weighed_by_length_and_code_counts_where_it_is():
    parts = [reading(level=2.0), reading(level=5.0, code=4.0)]
    merged = merge_readings(parts, [300, 100], reading(), DigestingSettings())
    assert merged.factors["technical_terms"] == pytest.approx(2.75)
    assert merged.factors["code_complexity"] == 4.0
    assert merge_readings(parts[:1], [300], reading(), DigestingSettings()).factors["code_complexity"] is None


def test_parts_that_cover_nothing_of_the_document_count_alike():
    parts = [reading(level=2.0).factors, reading(level=5.0, code=4.0).factors]
    assert merge_factors(parts[:1], [0]) == parts[0]
    assert merge_factors(parts, [0, 0])["technical_terms"] == pytest.approx(3.5)
    # Beside one that covers something they do not count, but for what nothing else says.
    merged = merge_factors(parts, [300, 0])
    assert (merged["technical_terms"], merged["code_complexity"]) == (2.0, 4.0)


def parts_of(content, limit):
    parts, rest = [], content
    while rest:
        part = next_part(rest, limit)
        assert len(part.text) <= limit + 4  # a closing fence
        assert part.resume > 0
        parts.append(part)
        rest = rest[part.resume :]
    return parts


def test_parts_end_before_headings_and_cover_everything():
    content = "".join(f"# H{i}\n\n{'word ' * 20}\n\n{'more ' * 10}\n\n" for i in range(5))
    parts = parts_of(content, 200)
    assert "".join(part.text for part in parts) == content
    assert [part.text[:4] for part in parts] == [f"# H{i}" for i in range(5)]


def test_no_part_begins_or_ends_inside_a_fence():
    code = "```py\n" + "x = 1\n" * 20 + "```\n"
    content = "Before it.\n\n" * 6 + code + "\nAfter it.\n"
    parts = parts_of(content, 140)
    assert all(part.text.count("```") % 2 == 0 for part in parts)
    assert "".join(part.text for part in parts) == content
    # A block that fits into no part is closed behind a line, and its rest is left out.
    shorter = parts_of(content, 100)
    assert all(part.text.count("```") % 2 == 0 for part in shorter)
    assert sum(part.covered for part in shorter) < len(content)
    assert "After it." in shorter[-1].text
