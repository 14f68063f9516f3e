"""Label files, what a label must agree with, and the question put to a teacher."""

import json
from pathlib import Path

import pytest

from smartdevdigest_ops.contracts import CrawlRecord, Label
from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.labeling.recorded import find_label_files, read_labels
from smartdevdigest_ops.labeling.sanity import SoundLabel, hold_against_document, is_written_in
from smartdevdigest_ops.settings import PROJECT_DIR

GOOD = {
    "url": "https://example.org/a",
    "language": "en",
    "summary": "Containers share the host kernel.",
    "keywords": ["container", "kernel"],
    "difficulty_factors": {
        "technical_terms": 2,
        "concept_complexity": 2,
        "background_knowledge": 2,
        "code_complexity": None,
    },
    "prerequisites": [],
    "technical_terms": [{"term": "kernel", "explanation": "The core of an operating system."}],
}


def lines(*labels: object) -> str:
    return "".join((label if isinstance(label, str) else json.dumps(label)) + "\n" for label in labels)


def test_a_bad_line_is_rejected_alone_with_file_line_and_reason(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    out_of_range = GOOD | {"difficulty_factors": GOOD["difficulty_factors"] | {"technical_terms": 6}}
    file.write_text(lines(GOOD, "{broken", "", out_of_range, GOOD | {"url": "not a url"}, [1]), encoding="utf-8")
    recorded = read_labels([file])
    assert list(recorded.labels) == ["https://example.org/a"]
    assert [(reject.file, reject.line) for reject in recorded.rejects] == [
        ("labels.jsonl", 2),
        ("labels.jsonl", 4),
        ("labels.jsonl", 5),
        ("labels.jsonl", 6),
    ]
    assert recorded.rejects[0].reason.startswith("not JSON")
    assert recorded.rejects[1].reason.startswith("difficulty_factors.technical_terms: Input should be less than")
    assert recorded.rejects[0].excerpt == "{broken"
    assert recorded.num_lines == 5


def test_a_line_that_is_not_utf8_is_one_bad_line(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_bytes(b'{"url": "\xff\xfe"}\n' + lines(GOOD).encode())
    recorded = read_labels([file])
    assert len(recorded.labels) == 1
    assert recorded.rejects[0].reason == "not UTF-8 at byte 9"


def test_the_later_file_wins_on_a_repeated_url_whatever_its_spelling(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text(lines(GOOD))
    second.write_text(lines(GOOD | {"url": "HTTPS://Example.org/a/?utm_source=x#top", "summary": "The later one."}))
    recorded = read_labels([first, second])
    assert recorded.labels["https://example.org/a"].summary == "The later one."
    assert (recorded.num_lines, recorded.num_replaced) == (2, 1)


def test_a_label_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabelingError, match=r"missing\.jsonl, which does not exist"):
        find_label_files([str(tmp_path / "missing.jsonl")])


def test_keywords_and_terms_that_the_document_does_not_hold_are_removed_and_counted() -> None:
    label = Label.model_validate(
        GOOD
        | {
            "keywords": ["Container", "host  kernel", "Kubernetes"],
            "technical_terms": [
                {"term": "KERNEL", "explanation": "The core."},
                {"term": "pod", "explanation": "A group of containers."},
            ],
        }
    )
    sound = hold_against_document(label, title="Containers", content="They share the host\nkernel.", language="en")
    assert isinstance(sound, SoundLabel)
    assert sound.label.keywords == ["Container", "host  kernel"]
    assert [term.term for term in sound.label.technical_terms] == ["KERNEL"]
    assert (sound.num_removed_keywords, sound.num_removed_terms) == (1, 1)


def test_a_summary_in_the_other_language_makes_the_label_unusable() -> None:
    label = Label.model_validate(GOOD | {"language": "ko"})
    assert (
        hold_against_document(label, title=None, content="커널 container kernel", language="ko") == "summary_language"
    )
    assert hold_against_document(label, title=None, content="container kernel", language="en") == "label_language"


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Docker와 Kubernetes의 차이를 설명한다.", "ko", True),
        ("Docker and Kubernetes differ.", "ko", False),
        ("Docker and Kubernetes differ in what they schedule (한글).", "en", True),
        ("도커와 쿠버네티스의 차이", "en", False),
        ("123 %", "ko", False),
        ("123 %", "en", False),
    ],
)
def test_the_script_decides_the_language_of_a_summary(text: str, language: str, expected: bool) -> None:
    assert is_written_in(text, language) is expected


def test_the_sample_labels_are_sound(sample_documents: list[CrawlRecord], sample_labels: dict[str, Label]) -> None:
    for document in sample_documents:
        sound = hold_against_document(
            sample_labels[document.url], title=document.title, content=document.content, language=document.language
        )
        assert isinstance(sound, SoundLabel), document.url
        assert sound.num_removed_keywords + sound.num_removed_terms == 0, document.url


@pytest.mark.parametrize(
    ("summary", "copied"),
    [
        ("Containers share the host kernel. Virtual machines bring their own.", True),
        ("Virtual machines bring\ntheir OWN. Containers share the host kernel.", True),
        ("Containers share the host kernel, unlike virtual machines.", False),
        ("Containers share the host kernel. They start fast.", False),
    ],
)
def test_a_summary_is_copied_if_every_sentence_of_it_stands_in_the_document(summary: str, copied: bool) -> None:
    content = (
        "# Kernel\n\nContainers share the host kernel. Virtual machines bring their own. So container images are small."
    )
    found = hold_against_document(
        Label.model_validate(GOOD | {"summary": summary}), title=None, content=content, language="en"
    )
    assert (found == "summary_copied") is copied


SHARED_LABELS = PROJECT_DIR.parent / "shared/corpus/labels/teacher_labels.jsonl"


@pytest.mark.skipif(not SHARED_LABELS.is_file(), reason="the shared corpus lies beside some checkouts only")
def test_the_labels_of_the_shared_corpus_are_taken_as_they_are() -> None:
    recorded = read_labels(find_label_files([str(SHARED_LABELS)]))
    assert (len(recorded.labels), recorded.num_lines, recorded.rejects) == (220, 220, [])
    assert all(is_written_in(label.summary, label.language) for label in recorded.labels.values())
