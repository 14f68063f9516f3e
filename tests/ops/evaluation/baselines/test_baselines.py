import pytest

from smartdevdigest_ops.contracts import CrawlRecord, Label
from smartdevdigest_ops.evaluation.baselines.fit import Baseline, fit_baselines, lead, majority_levels
from smartdevdigest_ops.evaluation.gold import Gold, TestDocument
from smartdevdigest_ops.evaluation.text.sentences import prose, split_sentences

MARKDOWN = """# A heading. Not a sentence.

```python
print("Code. Never. Prose.")
```

First sentence here. Second one! - still the second.

- a bullet. not prose.

| a | table. |

Third, after it all? Fourth is left out.
"""


def test_lead3_is_the_first_three_sentences_outside_code_headings_lists_and_tables() -> None:
    assert lead(MARKDOWN, "en") == "First sentence here. Second one! - still the second. Third, after it all?"


def test_a_document_without_prose_leads_with_its_text() -> None:
    assert lead("# Only a heading", "en") == "# Only a heading"


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Use e.g. Docker. It runs.", ["Use e.g. Docker.", "It runs."]),
        ("Dr. Kim wrote v1.2 of it. Then J. Smith left.", ["Dr. Kim wrote v1.2 of it.", "Then J. Smith left."]),
        ('"Push it," they said. "Now." Done.', ['"Push it," they said.', '"Now."', "Done."]),
        ("Version 2.0 is out! 30 teams use it.", ["Version 2.0 is out!", "30 teams use it."]),
        ("One line\nbroken in two. Next.", ["One line broken in two.", "Next."]),
        ("No stop here\n\nNew paragraph", ["No stop here", "New paragraph"]),
    ],
)
def test_english_sentences_end_where_a_reader_ends_them(text: str, sentences: list[str]) -> None:
    assert split_sentences(text, "en") == sentences


def test_korean_sentences_end_at_endings_not_at_version_numbers() -> None:
    text = "새싹터미널 1.0이 공개됐다. 누구나 고칠 수 있다. 자원봉사자가 만들었다."
    assert split_sentences(text, "ko") == [
        "새싹터미널 1.0이 공개됐다.",
        "누구나 고칠 수 있다.",
        "자원봉사자가 만들었다.",
    ]


def test_a_longer_fence_is_not_closed_by_a_shorter_one_inside_it() -> None:
    assert prose("````md\n```\ninside\n```\nstill inside\n````\noutside") == "outside"


def test_difficulty_is_the_train_median_of_the_language(sample_labels: dict[str, Label]) -> None:
    korean = sorted(
        (label for label in sample_labels.values() if label.language == "ko"),
        key=lambda label: label.difficulty_factors.score(),
    )
    baseline = Baseline.fit([], korean[:3])
    document = TestDocument("https://a.example/x", "ko", None, "본문이다.", Gold())
    answer = baseline.answer(document)
    assert answer["difficulty_level"] == {"score": korean[1].difficulty_factors.score()}


def test_tf_idf_keywords_are_what_is_frequent_here_and_rare_elsewhere(sample_documents: list[CrawlRecord]) -> None:
    rows = [document.model_dump() for document in sample_documents]
    baseline = Baseline.fit(rows, [])
    document = next(d for d in sample_documents if d.url.endswith("/ko/terminal-first-steps"))
    keywords = baseline.keywords(TestDocument(document.url, "ko", document.title, document.content, Gold()))
    assert {"명령어", "폴더", "pwd"} <= set(keywords)
    assert len(keywords) == 5
    assert all(keyword in f"{document.title} {document.content}" for keyword in keywords)


def test_documents_without_any_term_give_no_keywords() -> None:
    baseline = Baseline.fit([{"language": "en", "title": None, "content": "a b 1 2"}], [])
    assert baseline.keywords(TestDocument("https://a.example/x", "en", None, "words here", Gold())) == []


def test_majority_is_the_level_of_most_labels_and_the_lower_among_equals() -> None:
    assert majority_levels(["en", "en", "en", "ko", "ko"], [3.2, 2.0, 3.4, 4.0, 2.0]) == {"en": 3.0, "ko": 2.0}


def test_without_labels_there_is_neither_majority_nor_readability(sample_documents: list[CrawlRecord]) -> None:
    rows = [document.model_dump() for document in sample_documents[:3]]
    assert set(fit_baselines(rows, [])) == {"lead3", "textrank"}


def test_baselines_answer_with_their_own_fields_of_a_digest(
    sample_documents: list[CrawlRecord], sample_labels: dict[str, Label]
) -> None:
    labelled = [d for d in sample_documents if d.url in sample_labels and d.language == "en"][:15]
    rows = [d.model_dump() for d in labelled]
    pairs = [row | {"label": sample_labels[row["url"]].model_dump_json()} for row in rows]
    baselines = fit_baselines(rows, pairs)
    english = TestDocument("https://a.example/x", "en", None, "Pods run. They stop.", Gold())
    korean = TestDocument("https://a.example/y", "ko", None, "본문이다.", Gold())
    keys = {system: set(answer(english)) for system, answer in baselines.items()}
    assert keys == {
        "lead3": {"summary", "keywords", "difficulty_level"},
        "textrank": {"summary"},
        "majority": {"difficulty_level"},
        "readability": {"difficulty_level"},
    }
    assert baselines["readability"](korean) == {}  # no label in this language
