import re
from dataclasses import replace

import pytest

from smartdevdigest_ops.evaluation.evaluate import Surroundings, evaluate
from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.evaluation.report.page import render_report
from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap
from smartdevdigest_ops.evaluation.systems import Answer

BOOTSTRAP = Bootstrap(num_samples=100, confidence=0.95, seed=17)
BITS = {
    stage: {"en": {"mean": 1.2, "low": 1.1, "high": 1.3, "n": 4}, "ko": {"mean": 2.0, "low": 1.8, "high": 2.1, "n": 4}}
    for stage in ("base_model", "m1_checkpoint", "quantized_model")
}
SURROUNDINGS = Surroundings(bits_per_byte=BITS)


@pytest.fixture(scope="module")
def page(gold_documents: list[TestDocument], answers_of_systems: dict[str, list[Answer]]) -> str:
    return render_report(evaluate(gold_documents, answers_of_systems, bootstrap=BOOTSTRAP, surroundings=SURROUNDINGS))


def test_the_page_loads_nothing_from_outside(page: str) -> None:
    assert not re.search(r"<(script|link|iframe|object)|@import|url\(", page)
    assert set(re.findall(r'src="([^,]{0,30})', page)) == {"data:image/png;base64"}


def test_the_page_has_a_column_for_every_system_and_a_row_for_every_metric_below_its_group(page: str) -> None:
    assert page.count('<th class="candidate">') == 2
    assert page.count("<th>Lead-3 baseline</th>") == 2
    for title in ("ROUGE-L", "chrF++", "Keyword F1", "Difficulty MAE ↓", "Difficulty QWK", "Valid JSON"):
        assert page.count(f'<th scope="row">{title}</th>') == 2
    for group in ("Summary against gold", "Keywords and terms", "Difficulty", "Form"):
        assert f">{group}</th></tr>" in page


def test_training_is_drawn_where_there_is_a_curve(
    page: str, gold_documents: list[TestDocument], answers_of_systems: dict[str, list[Answer]]
) -> None:
    curves = {"m1_checkpoint": [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "held_out_loss": 2.5}]}
    surroundings = Surroundings(training_curves=curves | {"m2_adapter": []})
    report = evaluate(gold_documents, answers_of_systems, bootstrap=BOOTSTRAP, surroundings=surroundings)
    assert render_report(report).count("against optimizer steps") == 1
    assert "<h2>Training</h2>" not in page


def test_what_quantization_changed_stands_beside_its_language(
    page: str, gold_documents: list[TestDocument], answers_of_systems: dict[str, list[Answer]]
) -> None:
    answers = answers_of_systems | dict.fromkeys(("unquantized", "rounded"), answers_of_systems["candidate"])
    changed = render_report(evaluate(gold_documents, answers, bootstrap=BOOTSTRAP))
    table = changed.split("What quantization changed")[1].split("</table>")[0]
    nothing, the_same = "<td>0.000 [0.000, 0.000]</td>", "<td>1.000 [1.000, 1.000]</td>"
    # Distance and equal summaries, of two systems in two languages.
    assert (table.count(nothing), table.count(the_same)) == (4, 4)
    assert changed.count("data:image/png") == 3  # metrics of two languages, and what quantizing changed of them
    assert "What quantization changed" not in page


def test_leaks_are_listed_by_address_and_an_audit_that_was_not_made_is_said_to_be_none(
    gold_documents: list[TestDocument], answers_of_systems: dict[str, list[Answer]]
) -> None:
    def rendered(leakage: dict | None) -> str:
        report = evaluate(
            gold_documents, answers_of_systems, bootstrap=BOOTSTRAP, surroundings=Surroundings(leakage=leakage)
        )
        return render_report(report)

    leak = {"url": "https://a.example/test", "train_url": "https://a.example/train"}
    page = rendered({"url": [leak], "content": []})
    assert "https://a.example/test in https://a.example/train" in page
    near_duplicates = page.split("near-duplicate or translation in the train split</th>")[1].split("</tr>")[0]
    assert "not looked for" in near_duplicates
    assert "0" not in near_duplicates
    assert "Not looked for: no training data was at hand." in rendered(None)


def test_document_text_is_escaped_wherever_it_is_shown(gold_documents: list[TestDocument]) -> None:
    attack = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'"
    gold = replace(gold_documents[0].gold, summary=attack, keywords=(attack,))
    document = replace(gold_documents[0], title=attack, content=attack, url=f"https://a.example/{attack}", gold=gold)
    digest = {"summary": attack, "keywords": [attack], "difficulty_level": {"score": 3.0}}
    answers = {system: [Answer(system, document.url, digest, True)] for system in ("candidate", "lead3")}
    page = render_report(evaluate([document], answers, bootstrap=BOOTSTRAP))
    assert "<script" not in page
    assert "<img src=x" not in page
    assert page.count("&lt;script&gt;") >= 6


def test_an_undefined_statistic_is_called_so(gold_documents: list[TestDocument]) -> None:
    digest = {"summary": "x", "keywords": [], "difficulty_level": {"score": 3.0}}
    answers = {
        system: [Answer(system, document.url, digest, True) for document in gold_documents[:3]]
        for system in ("candidate", "lead3")
    }
    report = evaluate(gold_documents[:3], answers, bootstrap=BOOTSTRAP)
    assert report["languages"]["en"]["candidate"]["difficulty_spearman"]["mean"] is None
    assert ">undefined</td>" in render_report(report)


def test_the_same_report_is_the_same_page_byte_for_byte(
    page: str, gold_documents: list[TestDocument], answers_of_systems: dict[str, list[Answer]]
) -> None:
    again = render_report(evaluate(gold_documents, answers_of_systems, bootstrap=BOOTSTRAP, surroundings=SURROUNDINGS))
    assert again == page


def test_gold_of_another_origin_has_tables_of_its_own(
    gold_documents: list[TestDocument], answers_of_systems: dict[str, list[Answer]]
) -> None:
    human = [
        replace(document, gold=replace(document.gold, origin="human")) if number < 2 else document
        for number, document in enumerate(gold_documents)
    ]
    page = render_report(evaluate(human, answers_of_systems, bootstrap=BOOTSTRAP))
    assert "Against gold of another origin: human" in page
    assert page.index("Against gold of another origin") > page.index("Metrics with intervals")


def test_without_a_judge_the_page_says_so_and_shows_no_number_of_it(page: str) -> None:
    section = page[page.index("<h2>Judged by a model</h2>") : page.index("<h2>How the answers")]
    assert "Not run: no judge is configured (evaluation.judge.teacher is none)" in section
    assert "<table" not in section
