"""What a reader sees of the judge: page, Markdown, verdict, and that an unreliable one is marked and has no say."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from judge_server import JudgeEndpoint, takes_the_first

from smartdevdigest_ops.evaluation.evaluate import Surroundings, evaluate
from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.evaluation.judge.judging import Judged
from smartdevdigest_ops.evaluation.judge.markdown import judge_markdown
from smartdevdigest_ops.evaluation.report.page import render_report
from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap
from smartdevdigest_ops.evaluation.systems import Answer

BOOTSTRAP = Bootstrap(num_samples=100, confidence=0.95, seed=17)


@pytest.fixture
def report(
    judge: Callable[..., Judged], few_documents: list[TestDocument], few_answers: dict[str, list[Answer]]
) -> Callable[..., dict[str, Any]]:
    """`report(**settings of the judge)`: a whole report with what the endpoint judged."""

    def make(**changes: Any) -> dict[str, Any]:
        surroundings = Surroundings(judge=judge(dimensions=["faithfulness", "coverage"], **changes).section)
        return evaluate(few_documents, few_answers, bootstrap=BOOTSTRAP, surroundings=surroundings)

    return make


def _section(page: str) -> str:
    return page[page.index("<h2>Judged by a model</h2>") : page.index("<h2>How the answers")]


def _cells(html: str) -> list[str]:
    return re.findall(r"<td[^>]*>([^<]*)</td>", html)


def test_a_reliable_judge_has_its_accuracy_and_its_figures_on_the_page_and_a_sentence_in_the_verdict(
    report: Callable[..., dict[str, Any]],
) -> None:
    found = report()
    section = _section(render_report(found))
    known = found["judge"]["known_answers"]
    assert "The judge judge-model is reliable: it was right in" in section
    for title in ("Gold against gold of another document", "Gold against gold with altered numbers", "All tests"):
        assert title in section
    assert f"{known['total']['mean']:.3f} [{known['total']['low']:.3f}, {known['total']['high']:.3f}]" in section
    assert f"{found['judge']['scores']['ko']['candidate']['coverage']['mean']:.3f} [" in section
    assert "Ratings 1-5, Korean" in section
    assert "unreliable" not in section
    wins = found["judge"]["wins"]["en"]["lead3"]["win_rate"]
    assert f"Judged by judge-model, en: preferred to Lead-3 in {wins['mean']:.3f} [" in found["verdict"]


def test_every_figure_of_an_unreliable_judge_is_marked_on_the_page_and_in_markdown_and_the_verdict_has_none(
    report: Callable[..., dict[str, Any]], judge_endpoint: JudgeEndpoint
) -> None:
    judge_endpoint.rule = takes_the_first
    found = report()
    section = _section(render_report(found))
    assert "The judge judge-model is unreliable: it was right in 0.000" in section
    assert "no gate uses it" in section
    preferred = section[section.index("Candidate preferred") : section.index("Both orders are asked")]
    ratings = section[section.index("Ratings 1-5") :]
    figures = [*_cells(preferred), *_cells(ratings)]
    assert len(figures) == 2 * 2 * 2 + 2 * 3 * 2  # wins: languages, others, columns; ratings: languages, systems, rows
    assert all(figure.endswith(" unreliable") for figure in figures)
    assert "Judged by" not in found["verdict"]
    lines = judge_markdown(found["judge"], found["systems"])
    rows = [line for line in lines if line.startswith(("| en", "| ko"))]
    assert len(rows) == 2 * 3 + 2 * 2
    assert all(line.count("[") == line.count("(unreliable)") for line in rows)


def test_figures_of_a_reliable_judge_are_not_marked_in_markdown(report: Callable[..., dict[str, Any]]) -> None:
    found = report(pairwise=False)
    lines = judge_markdown(found["judge"], found["systems"])
    assert "is reliable" in lines[0]
    assert "unreliable" not in "\n".join(lines)
    assert len([line for line in lines if line.startswith(("| en", "| ko"))]) == 6


def test_what_was_not_run_has_its_reason_on_the_page_and_in_markdown(
    report: Callable[..., dict[str, Any]], judge_endpoint: JudgeEndpoint
) -> None:
    judge_endpoint.error = (500, "<script>alert(1)</script>")
    found = report()
    page = render_report(found)
    assert "Not run: http://127.0.0.1:" in page
    assert "<script" not in page
    assert not _cells(_section(page))
    assert judge_markdown(found["judge"], found["systems"])[0].startswith("LLM judge: not run, http://127.0.0.1:")


def test_equal_answers_give_an_equal_report_byte_for_byte(
    report: Callable[..., dict[str, Any]], judge_endpoint: JudgeEndpoint
) -> None:
    first, again = report(), report(making="another")
    assert again == first
    assert render_report(again) == render_report(first)
